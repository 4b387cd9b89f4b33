//! Takes a clear-signed OpenPGP message apart: what was signed, how it reads, the packets of the signature.
//!
//! Strict where readers differ, so that nobody can be shown another text than the one that was signed: nothing may
//! stand before or behind the message, and every line that begins with a dash must be escaped.
//! Outside facts: RFC 9580 §7 (cleartext signatures), §6.2 (armour).

use crate::sif::signature::decode_base64;

const BEGIN: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
const END: &[u8] = b"-----END PGP SIGNATURE-----";

/// A message taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The text as it was signed: lines without trailing blanks, joined by CR LF.
    pub(super) signed: Vec<u8>,
    /// The text as it reads: the same lines, joined by LF.
    pub(super) text: Vec<u8>,
    /// The signature packets.
    pub(super) packets: Vec<u8>,
}

/// Takes a message apart; none if it is not exactly one.
pub(super) fn split(bytes: &[u8]) -> Option<Message> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    if lines.next()? != BEGIN {
        return None;
    }
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        if !line.starts_with(b"Hash: ") {
            return None;
        }
    }
    let (mut signed, mut text) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()));
    let mut is_first = true;
    loop {
        let line = lines.next()?;
        if line == SIGNATURE {
            break;
        }
        let line = match line.strip_prefix(b"- ") {
            Some(escaped) => escaped,
            // A line of which trailing blanks were cut may have been an escaped empty one.
            None if line == b"-" => b"",
            None if line.starts_with(b"-") => return None,
            None => line,
        };
        if !is_first {
            signed.extend(b"\r\n");
            text.push(b'\n');
        }
        is_first = false;
        signed.extend(line);
        text.extend(line);
    }
    let packets = dearmour(&mut lines)?;
    lines.all(<[u8]>::is_empty).then_some(Message { signed, text, packets })
}

/// Reads the rest of an armour up to its end; its optional checksum proves nothing and is passed over.
fn dearmour<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        if !line.windows(2).any(|pair| pair == b": ") && !line.ends_with(b":") {
            return None;
        }
    }
    let mut base64 = String::new();
    loop {
        let line = lines.next()?;
        if line == END {
            return decode_base64(&base64);
        }
        if line.len() == 5 && line.starts_with(b"=") {
            return if lines.next()? == END { decode_base64(&base64) } else { None };
        }
        base64.push_str(std::str::from_utf8(line).ok()?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\none  \n- -two\n\nthree\n-----BEGIN PGP SIGNATURE-----\n\nZm9v\nYmFy\n=abcd\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn a_message_is_taken_apart() {
        let expected = Message {
            signed: b"one\r\n-two\r\n\r\nthree".to_vec(),
            text: b"one\n-two\n\nthree".to_vec(),
            packets: b"foobar".to_vec(),
        };
        assert_eq!(split(MESSAGE.as_bytes()).unwrap(), expected);
        assert_eq!(split(MESSAGE.replace('\n', "\r\n").as_bytes()).unwrap(), expected);
        assert_eq!(split(MESSAGE.replace("=abcd\n", "").as_bytes()).unwrap(), expected);
        let with_version = MESSAGE.replace("SIGNATURE-----\n\n", "SIGNATURE-----\nVersion: x\n\n");
        assert_eq!(split(with_version.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_is_not_exactly_one_message_is_none() {
        for wrong in [
            "x".to_owned() + MESSAGE,
            MESSAGE.to_owned() + "x",
            MESSAGE.to_owned() + MESSAGE,
            MESSAGE.replace("- -two", "-two"),
            MESSAGE.replace("Hash: SHA256", "Comment: SHA256"),
            MESSAGE.replace("Zm9v", "Zm*v"),
            MESSAGE.replace("=abcd\n", "=abcd\nZm9v\n"),
            MESSAGE.replace("-----END", "----END"),
            String::new(),
        ] {
            assert_eq!(split(wrong.as_bytes()), None, "{wrong}");
        }
        for cut in 0..MESSAGE.len() - 1 {
            assert_eq!(split(&MESSAGE.as_bytes()[..cut]), None, "{cut}");
        }
    }
}
