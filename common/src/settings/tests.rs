//! What people write into settings, and what they are told when it is wrong.

use super::*;
use serde::Deserialize;
use std::fs::{create_dir, write};
use std::time::Duration;
use tempfile::TempDir;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    name: String,
    roots: Vec<String>,
    session: Session,
    log: Log,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Session {
    address: String,
    heartbeat: Period,
    buffer: Size,
    tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Log {
    Journal,
    Stderr,
}

impl Default for Sample {
    fn default() -> Self {
        Self { name: "n".into(), roots: vec!["/a".into()], session: Session::default(), log: Log::Journal }
    }
}

impl Default for Session {
    fn default() -> Self {
        Self { address: "a:1".into(), heartbeat: Period::seconds(10), buffer: Size::mebibytes(1), tries: 3 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    #[expect(dead_code, reason = "only its absence is of interest")]
    address: String,
}

struct Etc {
    dir: TempDir,
}

impl Etc {
    fn new(main: Option<&str>, additions: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        if let Some(text) = main {
            write(place.main(), text).unwrap();
        }
        if !additions.is_empty() {
            create_dir(place.dir.path().join("agent.toml.d")).unwrap();
        }
        for (name, text) in additions {
            write(place.dir.path().join("agent.toml.d").join(name), text).unwrap();
        }
        place
    }

    fn main(&self) -> PathBuf {
        self.dir.path().join("agent.toml")
    }

    fn load<T: DeserializeOwned>(&self, variables: &[(&str, &str)]) -> Result<Loaded<T>, SettingsError> {
        let path = self.main();
        let options = Options { path: &path, explicit: false, env_prefix: "T_" };
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        load_with(&options, None, variables)
    }

    /// Loads, must fail, and shows the error without the directory.
    fn error(&self, variables: &[(&str, &str)]) -> String {
        let error = self.load::<Sample>(variables).unwrap_err().to_string();
        error.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

#[test]
fn without_any_source_the_defaults_hold() {
    let loaded = Etc::new(None, &[]).load::<Sample>(&[("OTHER", "1"), ("T_", "1"), ("T_CONFIG", "/x")]);
    assert_eq!(loaded.unwrap(), Loaded { settings: Sample::default(), files: vec![] });
}

#[test]
fn later_sources_win_key_by_key() {
    let place = Etc::new(
        Some("name = \"main\"\nroots = [\"/b\", \"/c\"]\n[session]\naddress = \"main:1\"\ntries = 4\n"),
        &[
            ("20-b.toml", "roots = [\"/d\"]\n[session]\ntries = 6\nheartbeat = \"250ms\"\n"),
            ("10-a.toml", "session = { tries = 5, buffer = \"64MiB\" }\n"),
            ("30-c.toml.off", "name = 1"),
        ],
    );
    let loaded = place.load::<Sample>(&[("T_SESSION__ADDRESS", "env:1"), ("T_LOG", "stderr")]).unwrap();
    let session = Session {
        address: "env:1".into(),
        heartbeat: "250ms".parse().unwrap(),
        buffer: "64MiB".parse().unwrap(),
        tries: 6,
    };
    let expected = Sample { name: "main".into(), roots: vec!["/d".into()], session, log: Log::Stderr };
    assert_eq!(loaded.settings, expected);
    assert_eq!(loaded.settings.session.heartbeat.get(), Duration::from_millis(250));
    let names: Vec<_> = loaded.files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(names, ["agent.toml", "10-a.toml", "20-b.toml"]);
}

#[test]
fn additions_are_read_in_the_order_of_their_names() {
    let files: Vec<_> =
        (10..60).map(|n| (format!("{n}.toml"), format!("session.tries = {n}\nname = \"{n}\""))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let loaded = Etc::new(None, &files).load::<Sample>(&[]).unwrap();
    assert_eq!((loaded.settings.session.tries, loaded.settings.name.as_str()), (59, "59"));
    assert!(loaded.files.is_sorted());
}

#[test]
fn an_unknown_key_is_shown_with_its_place_and_its_neighbour() {
    let main = "# head\n\n[session]\n  tries = 1\n  adress = \"x\"\n";
    assert_eq!(
        Etc::new(Some(main), &[]).error(&[]),
        r#"agent.toml:5:3: unknown key "adress"; did you mean "address"?"#
    );
    let addition = [("x.toml", "\n[sesion]\n")];
    assert_eq!(
        Etc::new(Some("name = \"é\"\n"), &addition).error(&[]),
        r#"agent.toml.d/x.toml:2:2: unknown key "sesion"; did you mean "session"?"#
    );
    assert_eq!(
        Etc::new(Some(main.replace("adress", "address").as_str()), &addition[..0])
            .error(&[("T_SESSION__TRYES", "3")]),
        r#"environment variable T_SESSION__TRYES: unknown key "tryes"; did you mean "tries"?"#
    );
    assert_eq!(
        Etc::new(None, &[]).error(&[("T_SESSION__TRIES__MORE", "3")]),
        "environment variable T_SESSION__TRIES__MORE: invalid type: map, expected u32"
    );
}

#[test]
fn a_wrong_type_is_shown_with_its_place() {
    let check = |main: &str, expected: &str| assert_eq!(Etc::new(Some(main), &[]).error(&[]), expected);
    check("name = 3\n", "agent.toml:1:8: invalid type: integer `3`, expected a string");
    check("roots = [\n \"/a\",\n 7]\n", "agent.toml:3:2: invalid type: integer `7`, expected a string");
    check("log = \"jornal\"", r#"agent.toml:1:7: "jornal" is not a choice; did you mean "journal"?"#);
    check(
        "session.heartbeat = 10",
        "agent.toml:1:21: invalid type: integer `10`, expected a duration with its unit, such as \"30s\"",
    );
    check(
        "session.buffer = \"64M\"",
        "agent.toml:1:18: \"64M\" is not a size; write for example \"512B\", \"64MiB\" or \"10GB\"",
    );
    check("session.tries = -1", "agent.toml:1:17: invalid value: integer `-1`, expected u32");
}

#[test]
fn a_broken_file_is_shown_with_its_place_even_behind_others() {
    let place = Etc::new(Some("name = \"a\"\n"), &[("x.toml", "\nroots = [\"/a\"\n\nname = 1")]);
    let error = place.error(&[]);
    assert!(error.starts_with("agent.toml.d/x.toml:"), "{error}");
    let twice = Etc::new(Some("name = \"a\"\nname = \"b\"\n"), &[]).error(&[]);
    assert!(twice.starts_with("agent.toml:2:1: "), "{twice}");
}

#[test]
fn variables_are_typed_where_that_fits_and_text_otherwise() {
    let place = Etc::new(None, &[]);
    let loaded = place.load::<Sample>(&[
        ("T_NAME", "001"),
        ("T_SESSION__ADDRESS", "12"),
        ("T_SESSION__TRIES", "12"),
        ("T_ROOTS", "[\"/x\", \"/y\"]"),
    ]);
    let settings = loaded.unwrap().settings;
    assert_eq!((settings.name.as_str(), settings.session.address.as_str()), ("001", "12"));
    assert_eq!((settings.session.tries, settings.roots.len()), (12, 2));
    assert_eq!(
        place.error(&[("T_NAME", "1"), ("T_SESSION__TRIES", "x")]),
        "environment variable T_SESSION__TRIES: invalid type: string \"x\", expected u32"
    );
    assert_eq!(
        place.error(&[("T_NAME", "1"), ("T_SESSION__TRIES", "1.5")]),
        "environment variable T_SESSION__TRIES: invalid type: floating point `1.5`, expected u32"
    );
}

#[test]
fn a_missing_key_names_the_file_to_put_it_into() {
    let place = Etc::new(None, &[]);
    let error = place.load::<Strict>(&[]).unwrap_err().to_string();
    assert_eq!(error, format!("{}: the key \"address\" is missing", place.main().display()));
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    let options = Options { path: &path, explicit: true, env_prefix: "T_" };
    let error = load_with::<Sample, _>(&options, None, std::iter::empty()).unwrap_err();
    assert!(matches!(error, SettingsError::Read { .. }), "{error}");
}

#[test]
fn files_are_bounded_in_size_and_number() {
    let long = "#".repeat(usize::try_from(MAX_FILE).unwrap() + 1);
    let error = Etc::new(Some(&long), &[]).load::<Sample>(&[]).unwrap_err();
    assert!(matches!(error, SettingsError::TooLarge { .. }), "{error}");
    let names: Vec<_> = (0..=MAX_ADDITIONS).map(|number| format!("{number}.toml")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    let error = Etc::new(None, &many).load::<Sample>(&[]).unwrap_err();
    assert!(matches!(error, SettingsError::TooMany { .. }), "{error}");
}
