//! Every sentence that a person gets to read in the language of choice: the reasons of verdicts, and what scans say.
//!
//! Owns the codes, which are stable, and their texts in English and Korean; which of them is true is decided in
//! [`crate::view::verdict`]. Names, numbers and node sets stand in braces; both languages use the same ones, and Korean
//! sentences are built so that no particle depends on what is filled in.

use std::borrow::Cow;

/// A language that sentences are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English, for whoever asks for nothing we have.
    #[default]
    English,
    /// Korean.
    Korean,
}

impl Language {
    /// Every language there is.
    pub const ALL: [Self; 2] = [Self::English, Self::Korean];

    /// Returns the tag of RFC 5646.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Korean => "ko",
        }
    }
}

/// What is filled into a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The image, as it is called.
    pub image: String,
    /// The partition.
    pub partition: String,
    /// How many nodes are ready.
    pub ready: u32,
    /// How many nodes there are.
    pub count: u32,
    /// How many must be ready.
    pub required: u32,
    /// The nodes that the sentence is about, folded.
    pub nodes: String,
    /// Whatever else is named: a digest, a key, a mistake, candidates.
    pub what: String,
}

/// Longest node set in a sentence, in bytes; the whole of it stands beside the sentence.
const MAX_NODES: usize = 120;

impl Facts {
    fn fill(&self, place: &str) -> Option<Cow<'_, str>> {
        Some(match place {
            "image" => Cow::Borrowed(&*self.image),
            "partition" => Cow::Borrowed(&*self.partition),
            "ready" => self.ready.to_string().into(),
            "count" => self.count.to_string().into(),
            "required" => self.required.to_string().into(),
            "nodes" => short(&self.nodes),
            "what" => Cow::Borrowed(&*self.what),
            _ => return None,
        })
    }

    /// Writes a sentence with everything filled in; braces around something else stay as they are.
    fn write(&self, sentence: &str) -> String {
        let mut text = String::with_capacity(sentence.len() + 64);
        let mut rest = sentence;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            match after.split_once('}').and_then(|(place, behind)| Some((self.fill(place)?, behind))) {
                Some((filled, behind)) => {
                    text.push_str(&filled);
                    rest = behind;
                }
                None => {
                    text.push('{');
                    rest = after;
                }
            }
        }
        text.push_str(rest);
        text
    }
}

/// Cuts a node set that is too long for a sentence, between two names.
fn short(nodes: &str) -> Cow<'_, str> {
    if nodes.len() <= MAX_NODES {
        return Cow::Borrowed(nodes);
    }
    let start = nodes.get(..nodes.floor_char_boundary(MAX_NODES)).unwrap_or_default();
    let end = start.rfind(',').unwrap_or(start.len());
    format!("{}…", start.get(..end).unwrap_or(start)).into()
}

/// The two texts of a code in one language.
struct Texts {
    message: &'static str,
    hint: Option<&'static str>,
}

macro_rules! reasons {
    ($($variant:ident $code:literal
        $en:literal $en_hint:expr;
        $ko:literal $ko_hint:expr;)*) => {
        /// Says why an answer is what it is. Its code is stable; programs decide by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $en] $variant,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            pub(super) const fn texts(self, language: Language) -> Texts {
                match (self, language) {
                    $((Self::$variant, Language::English) => Texts { message: $en, hint: $en_hint },
                    (Self::$variant, Language::Korean) => Texts { message: $ko, hint: $ko_hint },)*
                }
            }
        }
    };
}

mod reasons;

pub use reasons::Reason;

impl Reason {
    /// Finds the reason of a code.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// Writes the sentence for people.
    #[must_use]
    pub fn message(self, language: Language, facts: &Facts) -> String {
        facts.write(self.texts(language).message)
    }

    /// Writes what to do, if there is anything to be done.
    #[must_use]
    pub fn hint(self, language: Language, facts: &Facts) -> Option<String> {
        self.texts(language).hint.map(|hint| facts.write(hint))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Words that may stand in braces.
    const PLACES: [&str; 7] = ["image", "partition", "ready", "count", "required", "nodes", "what"];

    fn places(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(place, _)| place).collect()
    }

    fn is_korean(text: &str) -> bool {
        text.chars().any(|letter| ('가'..='힣').contains(&letter))
    }

    #[test]
    fn every_code_is_written_in_both_languages_and_both_name_the_same() {
        let mut codes = BTreeSet::new();
        for reason in Reason::ALL {
            let code = reason.code();
            assert!(codes.insert(code), "{code} twice");
            let [english, korean] = Language::ALL.map(|language| reason.texts(language));
            assert!(!is_korean(english.message) && is_korean(korean.message), "{code}");
            assert_eq!(places(english.message), places(korean.message), "{code}");
            assert_eq!(english.hint.is_some(), korean.hint.is_some(), "{code}");
            for (one, other) in english.hint.into_iter().zip(korean.hint) {
                assert!(!is_korean(one) && is_korean(other), "{code}");
                assert_eq!(places(one), places(other), "{code}");
            }
            for text in [english.message, korean.message].into_iter().chain(english.hint) {
                assert!(places(text).iter().all(|place| PLACES.contains(place)), "{code}: {text}");
            }
            assert_eq!(Reason::of(code), Some(*reason));
        }
    }

    #[test]
    fn a_sentence_holds_what_is_filled_in_and_nothing_twice() {
        let facts = Facts { image: "{nodes}".into(), nodes: "n[1-2]".into(), ..Facts::default() };
        assert_eq!(facts.write("{image} on {nodes} {what} {this}"), "{nodes} on n[1-2]  {this}");
        assert_eq!(facts.write("{image"), "{image");
        let long: Vec<String> = (0..100).map(|n| format!("rack{n}")).collect();
        let cut = short(&long.join(",")).into_owned();
        assert!(cut.ends_with("rack17…") && cut.len() < MAX_NODES + 4, "{cut}");
    }
}
