//! Step 1: the compact form.

use serde_json::json;

use super::*;

fn valid() -> String {
    rs256(&user_claims())
}

fn parts() -> [String; 3] {
    let token = valid();
    let mut parts = token.split('.').map(str::to_owned);
    [parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap()]
}

/// The valid token with one part replaced.
fn replaced(at: usize, part: impl FnOnce(&str) -> String) -> String {
    let mut parts = parts();
    parts[at] = part(&parts[at]);
    parts.join(".")
}

fn encoding(part: Part) -> TokenError {
    TokenError::EncodingInvalid { part }
}

fn json_invalid(part: Part) -> TokenError {
    TokenError::JsonInvalid { part }
}

fn duplicate(part: Part, name: &str) -> TokenError {
    TokenError::NameDuplicate { part, name: name.to_owned() }
}

/// The valid token with one of its texts edited, and signed as it then is.
fn edited(part: Part, edit: impl Fn(String) -> String) -> String {
    let (mut header, mut claims) = (header("RS256", "rsa").to_string(), user_claims().to_string());
    match part {
        Part::Header => header = edit(header),
        _ => claims = edit(claims),
    }
    sign_text(&header, &claims, "RS256", &TestKey::named("rsa"))
}

/// Sets bits of the last character that decode to nothing.
fn with_stray_bits(part: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    assert_ne!(part.len() % 4, 0, "without a remainder there are no stray bits");
    let last = part.as_bytes()[part.len() - 1];
    let at = ALPHABET.iter().position(|byte| *byte == last).unwrap();
    format!("{}{}", &part[..part.len() - 1], char::from(ALPHABET[at | 1]))
}

/// Claims whose encoding ends in a partial group, so that stray bits exist.
fn uneven_claims() -> String {
    let mut claims = user_claims().to_string();
    while claims.len().is_multiple_of(3) {
        claims.push(' ');
    }
    claims
}

pub(super) fn cases() -> Vec<Case> {
    let [header_part, claims_part, signature_part] = parts();
    let not_compact = |parts| TokenError::NotCompact { parts };
    let long = "x".repeat(compact::MAX_TOKEN_BYTES);
    let long = rs256(&with(user_claims(), json!({ "filler": long })));
    let length = long.len() as u64;
    let uneven = sign_text(&header("RS256", "rsa").to_string(), &uneven_claims(), "RS256", &TestKey::named("rsa"));
    let stray_claims = {
        let mut parts: Vec<String> = uneven.split('.').map(str::to_owned).collect();
        parts[1] = with_stray_bits(&parts[1]);
        parts.join(".")
    };
    let spaced_header =
        sign_text(&format!("{} ", header("RS256", "rsa")), &user_claims().to_string(), "RS256", &TestKey::named("rsa"));
    let stray_header = {
        let mut parts: Vec<String> = spaced_header.split('.').map(str::to_owned).collect();
        while parts[0].len().is_multiple_of(4) {
            parts[0] = encode(format!("{}  ", header("RS256", "rsa")));
        }
        parts[0] = with_stray_bits(&parts[0]);
        parts.join(".")
    };
    let mut cases = vec![
        Case::new("one byte over 16 KiB and more", long, TokenError::TooLarge { length, limit: 16 * 1024 }),
        Case::new("empty", String::new(), not_compact(1)),
        Case::new("one part", header_part.clone(), not_compact(1)),
        Case::new("two parts: no signature", format!("{header_part}.{claims_part}"), not_compact(2)),
        Case::new("four parts: trailing part", format!("{}.{signature_part}", valid()), not_compact(4)),
        Case::new("four parts: trailing dot", format!("{}.", valid()), not_compact(4)),
        Case::new("four parts: leading dot", format!(".{}", valid()), not_compact(4)),
        Case::new("five parts: an encrypted token", format!("{header_part}.a.b.c.d"), not_compact(5)),
        Case::new("JSON serialisation", json!({ "payload": "x", "signatures": [] }).to_string(), not_compact(1)),
        Case::new("only dots", "..".to_owned(), encoding(Part::Header)),
        Case::new("empty header", replaced(0, |_| String::new()), encoding(Part::Header)),
        Case::new("empty claims: detached content", replaced(1, |_| String::new()), encoding(Part::Claims)),
        Case::new("empty signature", replaced(2, |_| String::new()), encoding(Part::Signature)),
        Case::new("padded header", replaced(0, |part| format!("{part}=")), encoding(Part::Header)),
        Case::new("padded claims", replaced(1, |part| format!("{part}==")), encoding(Part::Claims)),
        Case::new("padded signature", replaced(2, |part| format!("{part}==")), encoding(Part::Signature)),
        Case::new("stray bits in the header", stray_header, encoding(Part::Header)),
        Case::new("stray bits in the claims", stray_claims, encoding(Part::Claims)),
        Case::new("stray bits in the signature", replaced(2, with_stray_bits), encoding(Part::Signature)),
        Case::new(
            "plus of the other alphabet",
            replaced(2, |part| format!("+{}", &part[1..])),
            encoding(Part::Signature),
        ),
        Case::new(
            "slash of the other alphabet",
            replaced(1, |part| format!("/{}", &part[1..])),
            encoding(Part::Claims),
        ),
        Case::new("leading space", format!(" {}", valid()), encoding(Part::Header)),
        Case::new("trailing space", format!("{} ", valid()), encoding(Part::Signature)),
        Case::new("trailing line break", format!("{}\n", valid()), encoding(Part::Signature)),
        Case::new(
            "line break inside",
            replaced(1, |part| format!("{}\n{}", &part[..8], &part[8..])),
            encoding(Part::Claims),
        ),
        Case::new("with its scheme", format!("Bearer {}", valid()), encoding(Part::Header)),
        Case::new("a NUL byte", format!("{}\0", valid()), encoding(Part::Signature)),
        Case::new("not ASCII", replaced(1, |part| format!("é{part}")), encoding(Part::Claims)),
        Case::new("a remainder of one character", replaced(2, |_| "AAAAA".to_owned()), encoding(Part::Signature)),
        Case::new("header is an array", replaced(0, |_| encode("[]")), json_invalid(Part::Header)),
        Case::new("header is text", replaced(0, |_| encode("\"x\"")), json_invalid(Part::Header)),
        Case::new("header is null", replaced(0, |_| encode("null")), json_invalid(Part::Header)),
        Case::new("header is not UTF-8", replaced(0, |_| encode(b"{\"alg\":\"\xff\"}")), json_invalid(Part::Header)),
    ];
    for part in [Part::Header, Part::Claims] {
        let is_header = part == Part::Header;
        let pick = |header: &'static str, claims: &'static str| if is_header { header } else { claims };
        cases.extend([
            Case::new(
                pick("header with trailing data", "claims with trailing data"),
                edited(part, |text| format!("{text}{{}}")),
                json_invalid(part),
            ),
            Case::new(
                pick("header with a trailing comma", "claims with a trailing comma"),
                edited(part, |text| text.replacen('}', ",}", 1)),
                json_invalid(part),
            ),
            Case::new(
                pick("header cut short", "claims cut short"),
                edited(part, |text| text[..text.len() - 1].to_owned()),
                json_invalid(part),
            ),
            Case::new(
                pick("header with a byte order mark", "claims with a byte order mark"),
                edited(part, |text| format!("\u{feff}{text}")),
                json_invalid(part),
            ),
            Case::new(
                pick("header with a comment", "claims with a comment"),
                edited(part, |text| format!("/**/{text}")),
                json_invalid(part),
            ),
            Case::new(
                pick("header nested too deeply", "claims nested too deeply"),
                edited(part, |text| text.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(40), "]".repeat(40)), 1)),
                json_invalid(part),
            ),
            Case::new(
                pick("header nested deeper than the stack", "claims nested deeper than the stack"),
                edited(part, |text| text.replacen('{', &format!("{{\"x\":{},", "[".repeat(5000)), 1)),
                json_invalid(part),
            ),
            Case::new(
                pick("header with a name twice in an inner object", "claims with a name twice in an inner object"),
                edited(part, |text| text.replacen('{', r#"{"x":[{"y":{"z":1,"z":1}}],"#, 1)),
                duplicate(part, "z"),
            ),
            Case::new(
                pick("header with an escaped lone surrogate", "claims with an escaped lone surrogate"),
                edited(part, |text| text.replacen('{', r#"{"x":"\ud800","#, 1)),
                json_invalid(part),
            ),
        ]);
    }
    let twice = |part, name: &'static str, member: &'static str| {
        (edited(part, move |text| text.replacen('{', &format!("{{{member},"), 1)), duplicate(part, name))
    };
    for (case, part, name, member) in [
        ("alg twice", Part::Header, "alg", r#""alg":"none""#),
        ("alg twice, the same", Part::Header, "alg", r#""alg":"RS256""#),
        ("alg twice, once escaped", Part::Header, "alg", r#""\u0061lg":"RS256""#),
        ("kid twice", Part::Header, "kid", r#""kid":"other""#),
        ("iss twice", Part::Claims, "iss", r#""iss":"https://evil.example""#),
        ("aud twice", Part::Claims, "aud", r#""aud":"other""#),
        ("exp twice", Part::Claims, "exp", r#""exp":99999999999"#),
        ("tid twice", Part::Claims, "tid", r#""tid":"other""#),
        ("scp twice", Part::Claims, "scp", r#""scp":"Everything""#),
        ("oid twice", Part::Claims, "oid", r#""oid":"other""#),
    ] {
        let (token, expected) = twice(part, name, member);
        cases.push(Case::new(case, token, expected));
    }
    cases
}
