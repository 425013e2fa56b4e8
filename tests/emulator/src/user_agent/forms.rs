//! Reading forms out of HTML.
//!
//! A scanner for the tags a form is made of, forgiving about everything else: pages are the emulator's own or an
//! application's, and no decision about security depends on what is read here.

/// A form with its fields and buttons.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Form {
    pub(super) action: String,
    method: String,
    inputs: Vec<Input>,
    buttons: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Input {
    name: String,
    value: String,
    hidden: bool,
}

impl Form {
    /// All forms of a page, in order.
    pub(super) fn all(html: &str) -> Vec<Self> {
        let mut forms = Vec::new();
        let mut open: Option<Self> = None;
        for tag in tags(html) {
            let (name, attributes) = tag;
            match (name.as_str(), &mut open) {
                ("form", _) => {
                    open = Some(Self {
                        action: attribute(&attributes, "action"),
                        method: attribute(&attributes, "method").to_ascii_lowercase(),
                        ..Self::default()
                    });
                }
                ("/form", Some(_)) => forms.extend(open.take()),
                ("input", Some(form)) => form.inputs.push(Input {
                    name: attribute(&attributes, "name"),
                    value: attribute(&attributes, "value"),
                    hidden: attribute(&attributes, "type") == "hidden",
                }),
                ("button", Some(form)) => {
                    form.buttons.push((attribute(&attributes, "name"), attribute(&attributes, "value")));
                }
                _ => {}
            }
        }
        forms
    }

    pub(super) fn has_input(&self, name: &str) -> bool {
        self.inputs.iter().any(|input| input.name == name)
    }

    /// Whether there is a button of this name and value.
    pub(super) fn offers(&self, name: &str, value: &str) -> bool {
        self.buttons.iter().any(|button| button.0 == name && button.1 == value)
    }

    pub(super) fn is_posted(&self) -> bool {
        self.method == "post"
    }

    pub(super) fn hidden(&self) -> Vec<(String, String)> {
        let hidden = self.inputs.iter().filter(|input| input.hidden);
        hidden.map(|input| (input.name.clone(), input.value.clone())).collect()
    }
}

/// The page's title.
pub(super) fn title(html: &str) -> String {
    let inside = html.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    inside.map_or_else(String::new, |(title, _)| unescape(title.trim()))
}

/// What the page announces as an alert, with the AADSTS code in it.
pub(super) fn alert(html: &str) -> Option<(String, Option<u32>)> {
    let (_, rest) = html.split_once("role=\"alert\">")?;
    let (inside, _) = rest.split_once("</p>")?;
    let mut text = String::new();
    for piece in inside.split('<') {
        text.push_str(piece.split_once('>').map_or(piece, |(_, text)| text));
    }
    let code = text
        .split_once("AADSTS")
        .and_then(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok());
    Some((unescape(text.trim()), code))
}

type Attributes = Vec<(String, String)>;

fn attribute(attributes: &Attributes, name: &str) -> String {
    attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

fn tags(html: &str) -> impl Iterator<Item = (String, Attributes)> + '_ {
    html.split('<').skip(1).map(|piece| {
        let inside = piece.split_once('>').map_or(piece, |(inside, _)| inside);
        let (name, rest) = inside.split_once(|character: char| character.is_ascii_whitespace()).unwrap_or((inside, ""));
        (name.to_ascii_lowercase(), attributes(rest))
    })
}

fn attributes(mut text: &str) -> Attributes {
    let mut found = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return found;
        }
        let end =
            text.find(|character: char| character == '=' || character.is_ascii_whitespace()).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let Some(value) = rest.strip_prefix('=') else {
            found.push((name.to_ascii_lowercase(), String::new()));
            text = rest;
            // A lone '=' must not keep the scanner where it is.
            if name.is_empty() {
                return found;
            }
            continue;
        };
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.split_once(|character: char| character.is_ascii_whitespace()).unwrap_or((value, "")),
        };
        found.push((name.to_ascii_lowercase(), unescape(value)));
        text = rest;
    }
}

/// Text as a person reads it in a page.
pub(super) fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_buttons_of_a_form_are_read() {
        let html = r#"<p>x</p><form method="post" action="/a?b=1&amp;c=2"><input type="hidden" name="ctx" value="1 2&quot;">
            <input name=plain autofocus><button name="action" value="go" class="primary">Go</button></form>"#;
        let [form] = Form::all(html).try_into().unwrap();
        assert_eq!(form.action, "/a?b=1&c=2");
        assert_eq!(form.hidden(), [("ctx".to_owned(), "1 2\"".to_owned())]);
        assert!(form.has_input("plain") && form.offers("action", "go") && form.is_posted());
    }

    #[test]
    fn broken_html_ends_the_scan() {
        for html in ["<", "<form", "<input =", "<a =\"", "<form action=\"x", "<<>><form>", "<input name==x>"] {
            let _ = Form::all(html);
        }
    }

    #[test]
    fn the_code_of_an_alert_is_read() {
        let html = r#"<p class="alert" role="alert">Wrong &amp; bad. <span class="code">AADSTS50126</span></p>"#;
        assert_eq!(alert(html), Some(("Wrong & bad. AADSTS50126".to_owned(), Some(50126))));
    }
}
