//! What a job template needs, as it is kept: checked, whoever wrote it.

use std::fmt;
use std::str::FromStr;

use sifleet_common::api::templates::TemplateBody;
use sifleet_common::availability::Require;
use sifleet_common::digest::Digest;
use sifleet_common::name::PartitionName;
use sifleet_common::policy::Fingerprint;
use sifleet_common::time::UnixMillis;

/// Longest id, in bytes.
pub const MAX_ID: usize = 128;
/// Longest reference to an image, in bytes: a path, `@` and a digest.
const MAX_IMAGE: usize = sifleet_common::name::MAX_IMAGE_NAME + 72;
/// Longest name for people, in characters.
const MAX_NAME: usize = 200;
/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 2_000;

/// Says why something is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

/// What a template is called: letters, digits, dots, dashes and underscores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId(String);

impl TemplateId {
    /// Borrows the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TemplateId {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let begins = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_ID && text.bytes().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(60).collect();
        Err(Unfit(format!(
            "{shown:?} cannot be the id of a template: write 1 to {MAX_ID} letters, digits, dots, dashes and \
             underscores, a letter or digit first"
        )))
    }
}

/// One template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateRecord {
    /// What it is called.
    pub id: TemplateId,
    /// For people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// The image, as people write it.
    pub image: String,
    /// The partition of its jobs.
    pub partition: PartitionName,
    /// How many nodes must be ready.
    pub require: Require,
    /// Which bytes.
    pub digest: Option<Digest>,
    /// Who must have signed it.
    pub signer: Option<Fingerprint>,
    /// When it was read or written.
    pub changed: UnixMillis,
}

impl TemplateRecord {
    /// Reads what somebody wrote.
    ///
    /// # Errors
    /// [`Unfit`] names the field and says what is wrong with it.
    pub fn read(id: TemplateId, body: TemplateBody, changed: UnixMillis) -> Result<Self, Unfit> {
        if body.image.trim().is_empty() || body.image.len() > MAX_IMAGE {
            return Err(Unfit(format!("image: write 1 to {MAX_IMAGE} bytes, such as vnc_desktop.sif")));
        }
        let bounded = |field: &str, text: &Option<String>, max: usize| match text {
            Some(text) if text.chars().count() > max => {
                Err(Unfit(format!("{field}: at most {max} characters make sense")))
            }
            Some(_) | None => Ok(()),
        };
        bounded("name", &body.name, MAX_NAME)?;
        bounded("description", &body.description, MAX_DESCRIPTION)?;
        Ok(Self {
            partition: field("partition", Some(&body.partition))?
                .ok_or_else(|| Unfit("partition: name one".to_owned()))?,
            require: field("require", body.require.as_deref())?.unwrap_or_default(),
            digest: field("digest", body.digest.as_deref())?,
            signer: field("signer", body.signer.as_deref())?,
            name: body.name,
            description: body.description,
            image: body.image,
            id,
            changed,
        })
    }

    /// Shows it as it is written.
    #[must_use]
    pub fn body(&self) -> TemplateBody {
        TemplateBody {
            name: self.name.clone(),
            description: self.description.clone(),
            image: self.image.clone(),
            partition: self.partition.to_string(),
            require: Some(self.require.to_string()),
            digest: self.digest.map(|digest| digest.to_string()),
            signer: self.signer.map(|signer| signer.to_string()),
        }
    }
}

fn field<T: FromStr<Err: fmt::Display>>(name: &str, text: Option<&str>) -> Result<Option<T>, Unfit> {
    let read = |text: &str| text.parse().map_err(|error| Unfit(format!("{name}: {error}")));
    text.map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(image: &str) -> TemplateBody {
        TemplateBody {
            name: None,
            description: None,
            image: image.to_owned(),
            partition: "viz".to_owned(),
            require: Some("2".to_owned()),
            digest: None,
            signer: None,
        }
    }

    fn wrong(change: impl Fn(&mut TemplateBody)) -> String {
        let mut body = body("a.sif");
        change(&mut body);
        TemplateRecord::read("a".parse().unwrap(), body, UnixMillis(0)).unwrap_err().to_string()
    }

    #[test]
    fn what_was_read_is_written_again_as_it_was() {
        let mut written = body("a.sif");
        written.digest = Some(Digest::from_bytes([3; 32]).to_string());
        written.signer = Some(Fingerprint::Pgp([7; 20]).to_string());
        let read = TemplateRecord::read("a".parse().unwrap(), written.clone(), UnixMillis(0)).unwrap();
        assert_eq!(read.body(), written);
    }

    #[test]
    fn mistakes_name_the_field() {
        assert!(wrong(|body| body.image = " ".into()).starts_with("image: "));
        assert!(wrong(|body| body.partition = "a b".into()).starts_with("partition: "));
        assert!(wrong(|body| body.require = Some("0".into())).starts_with("require: "));
        assert!(wrong(|body| body.digest = Some("blake3:1".into())).starts_with("digest: "));
        assert!(wrong(|body| body.signer = Some("me".into())).starts_with("signer: "));
        assert!(wrong(|body| body.name = Some("x".repeat(201))).starts_with("name: "));
    }

    #[test]
    fn an_id_stands_in_a_path_as_it_is() {
        for good in ["a", "angle-drop-simulation-v1", "7.x_y"] {
            assert_eq!(good.parse::<TemplateId>().unwrap().as_str(), good);
        }
        for bad in ["", ".a", "a/b", "a b", "é", &"a".repeat(129)] {
            assert!(bad.parse::<TemplateId>().is_err(), "{bad}");
        }
    }
}
