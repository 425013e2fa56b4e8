//! Whatever comes back as a sealed value: it opens only if it is what went out, for what it was bound to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use world::StoreError;
use world::records::{Partition, Records, Sealed};
use world::testing::{World, run, settings};

const VALUES: Sealed<String> = Sealed::json(Partition::Application, "fuzz-key");
/// Another kind under the same key.
const NUMBERS: Sealed<Vec<u8>> =
    VALUES.with_encoding(|bytes| Ok(zeroize::Zeroizing::new(bytes.clone())), |bytes| Some(bytes.to_vec()));
const BOUND: &[u8] = b"what it is for";
/// Bytes of a value that is always sealed: JSON escapes a byte with six characters at most, base64url makes four of three.
const ALWAYS_FITS: usize = 4096 / 4 * 3 / 6 - 16;

thread_local! {
    static RECORDS: Records<'static> = World::default().records(&settings());
}

fuzz_target!(|input: (String, String, u16)| {
    let (text, value, place) = input;
    RECORDS.with(|records| {
        // What would be too long to be opened is not sealed.
        let sealed = match run(records.seal(&VALUES, BOUND, &value)) {
            Err(StoreError::TooLarge) if value.len() > ALWAYS_FITS => return,
            sealed => sealed.expect("the store works"),
        };
        let open = |bound: &[u8], text: &str| run(records.open(&VALUES, bound, text)).expect("the store works");
        assert!(open(BOUND, &text).is_none(), "{text} was made up");
        assert_eq!(open(BOUND, &sealed).as_ref(), Some(&value), "{sealed} does not open");
        assert!(open(b"", &sealed).is_none() && open(text.as_bytes(), &sealed).is_none() || text.as_bytes() == BOUND);
        assert!(run(records.open(&NUMBERS, b"other", &sealed)).expect("the store works").is_none());
        for altered in [altered(&sealed, place), format!("{sealed}="), format!("{sealed}{text}A"), format!("A{sealed}")]
        {
            assert!(open(BOUND, &altered).is_none(), "{altered} opens like {sealed}");
        }
    });
});

/// With another character somewhere.
fn altered(sealed: &str, place: u16) -> String {
    let mut bytes = sealed.as_bytes().to_vec();
    let place = usize::from(place) % bytes.len();
    bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).expect("base64url is text")
}
