//! What the deserializer says, said so that a person knows what to do.
//!
//! serde knows which keys would have been right but tells them only as text, in its fixed forms
//! `unknown field \`a\`, expected \`b\` or \`c\`` and `missing field \`a\``; any other text is passed on as it is.

/// Furthest that a guess may be from what was written: a third of it, and one slip in a short word.
const CLOSE: usize = 3;

/// Rewrites a message of the deserializer.
pub(super) fn explain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(written) = quoted.next() else { return message.to_owned() };
    let right: Vec<&str> = quoted.collect();
    if message.starts_with("missing field ") {
        format!("the key {written:?} is missing")
    } else if message.starts_with("unknown field ") {
        format!("unknown key {written:?}; {}", instead(written, &right, "keys"))
    } else if message.starts_with("unknown variant ") {
        format!("{written:?} is not a choice; {}", instead(written, &right, "choices"))
    } else {
        message.to_owned()
    }
}

fn instead(written: &str, right: &[&str], plural: &str) -> String {
    if right.is_empty() {
        return format!("there are no {plural} here");
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let nearest = right
        .iter()
        .map(|key| (strsim::damerau_levenshtein(&plain(written), &plain(key)), *key))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, key)) if distance <= (written.chars().count() / CLOSE).max(1) => {
            format!("did you mean {key:?}?")
        }
        Some(_) | None => format!("the {plural} here are: {}", right.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: &str) {
        assert_eq!(explain(message), expected);
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_one() {
        let message =
            |key| format!("unknown field `{key}`, expected one of `interval`, `roots`, `settle_time`");
        check(&message("intervall"), r#"unknown key "intervall"; did you mean "interval"?"#);
        check(&message("Settle-Time"), r#"unknown key "Settle-Time"; did you mean "settle_time"?"#);
        check(&message("x"), r#"unknown key "x"; the keys here are: interval, roots, settle_time"#);
        check("unknown field `x`, there are no fields", r#"unknown key "x"; there are no keys here"#);
    }

    #[test]
    fn other_messages_say_what_they_said() {
        check(
            "unknown variant `jornal`, expected `journal` or `stderr`",
            r#""jornal" is not a choice; did you mean "journal"?"#,
        );
        check("missing field `address`", r#"the key "address" is missing"#);
        check("invalid type: string \"x\", expected u32", "invalid type: string \"x\", expected u32");
        check("invalid value: `30`", "invalid value: `30`");
    }
}
