//! How external registries look, and how they are.

use serde_json::{Map, Value};
use sifleet_common::api::registries::{RegistryAuth, RegistryBody, RegistryHealth, RegistryList};

use super::Render;
use super::text::{Block, Cell, Csv, Note, Table, Tone};

fn row(registry: &RegistryBody, wide: bool) -> Vec<Cell> {
    vec![
        Cell::new(&registry.name).tone(Tone::Strong),
        Cell::long(&registry.public_url, wide),
        Cell::long(&registry.tags.join(","), wide),
        Cell::new(if registry.has_credentials { "set" } else { "none" }),
        Cell::new(&registry.id).tone(Tone::Faint),
    ]
}

fn csv(registries: &[RegistryBody]) -> Csv {
    let mut csv = Csv::new(&[
        "id",
        "name",
        "public_url",
        "image_prefix",
        "tags",
        "has_credentials",
        "created",
        "changed",
    ]);
    for registry in registries {
        csv.row(vec![
            registry.id.clone(),
            registry.name.clone(),
            registry.public_url.clone(),
            registry.image_prefix.clone(),
            registry.tags.join(" "),
            registry.has_credentials.to_string(),
            registry.created.clone(),
            registry.changed.clone(),
        ]);
    }
    csv
}

impl Render for RegistryList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut table = Table::new(&["NAME", "ADDRESS", "TAGS", "CREDENTIALS", "ID"]);
        for registry in &self.registries {
            table.row(row(registry, wide));
        }
        if table.is_empty() {
            return vec![Block::Line(vec![Cell::new("there are no such registries")])];
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.registries.iter().map(|registry| registry.name.clone()).collect()
    }

    fn csv(&self) -> Csv {
        csv(&self.registries)
    }
}

impl Render for RegistryBody {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut table = Table::new(&[]);
        let mut line = |name: &str, text: &str| {
            if !text.is_empty() {
                table.row(vec![Cell::new(name).tone(Tone::Faint), Cell::long(text, wide)]);
            }
        };
        line("id", &self.id);
        line("address", &self.public_url);
        line("images begin with", &self.image_prefix);
        line("tags", &self.tags.join(", "));
        line("credentials", if self.has_credentials { "set, and shown to nobody" } else { "none" });
        for (name, object) in
            [("metadata", &self.metadata), ("config", &self.config), ("storage", &self.storage_info)]
        {
            line(name, &plain(object));
        }
        line("changed", &self.changed);
        vec![Block::Line(vec![Cell::new(&self.name).tone(Tone::Strong)]), Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn csv(&self) -> Csv {
        csv(std::slice::from_ref(self))
    }
}

/// Writes an object on one line; nothing for an empty one.
fn plain(object: &Map<String, Value>) -> String {
    let one = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!("{key}={text}"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            format!("{key}={value}")
        }
    };
    object.iter().map(one).collect::<Vec<_>>().join(" ")
}

impl Render for RegistryHealth {
    fn blocks(&self, _wide: bool) -> Vec<Block> {
        let (word, tone) = match (self.oci, self.reachable) {
            _ if self.problem.as_deref() == Some("refused_address") => ("is not asked", Tone::Bad),
            (true, _) => ("answers", Tone::Good),
            (false, true) => ("is no registry", Tone::Bad),
            (false, false) => ("does not answer", Tone::Bad),
        };
        let mut line =
            vec![Cell::new(&self.url).tone(Tone::Strong), Cell::new(" "), Cell::new(word).tone(tone)];
        if let Some(took) = self.latency_ms {
            line.push(Cell::new(format!(" in {took} ms")));
        }
        if let Some(address) = &self.address {
            line.push(Cell::new(format!(" ({address})")));
        }
        let auth = match self.auth {
            RegistryAuth::None => "; anybody may read",
            RegistryAuth::Basic => "; it asks for a name and a password",
            RegistryAuth::Bearer => "; it asks for a token",
            RegistryAuth::Unknown => "",
        };
        line.push(Cell::new(auth));
        vec![Block::Line(line)]
    }

    fn names(&self) -> Vec<String> {
        vec![self.id.clone()]
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["id", "url", "reachable", "oci", "auth", "status", "latency_ms", "problem"]);
        csv.row(vec![
            self.id.clone(),
            self.url.clone(),
            self.reachable.to_string(),
            self.oci.to_string(),
            self.auth.name().to_owned(),
            self.status.map(|status| status.to_string()).unwrap_or_default(),
            self.latency_ms.map(|took| took.to_string()).unwrap_or_default(),
            self.problem.clone().unwrap_or_default(),
        ]);
        csv
    }

    fn notes(&self) -> Vec<Note> {
        self.detail.iter().map(|detail| Note::Warning(detail.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use serde_json::json;

    use super::*;
    use crate::output::text::layout;

    fn registry() -> RegistryBody {
        serde_json::from_value(json!({
            "id": "b3c38f52", "name": "hub\u{1b}[31m", "metadata": {"owner": "mlops", "rack": 7}, "tags": ["ai", "internal"],
            "public_url": "https://r.example:5000", "image_prefix": "", "config": {}, "storage_info": {},
            "has_credentials": true, "created": "2026-03-01T12:00:00Z", "changed": "2026-03-01T12:00:00Z"
        }))
        .unwrap()
    }

    #[test]
    fn a_registry_is_shown_with_what_is_known_of_it() {
        let shown = strip_str(&layout(&registry().blocks(false))).to_string();
        assert!(
            shown.contains("owner=mlops rack=7") && shown.contains("set, and shown to nobody"),
            "{shown}"
        );
        assert!(!shown.contains('\u{1b}'), "{shown}");
        let list = RegistryList { registries: vec![registry()], as_of: String::new() };
        assert_eq!(layout(&list.blocks(false)).lines().count(), 2);
        assert!(list.csv().to_string().contains(",ai internal,true,"));
    }

    #[test]
    fn an_answer_says_how_the_registry_is() {
        let mut health: RegistryHealth = serde_json::from_value(json!({
            "id": "a", "url": "https://r.example", "reachable": true, "oci": true, "auth": "bearer", "status": 401,
            "api_version": "registry/2.0", "address": "192.0.2.1:443", "latency_ms": 12, "problem": null, "detail": null,
            "as_of": "2026-03-01T12:00:00Z"
        }))
        .unwrap();
        let shown = |health: &RegistryHealth| strip_str(&layout(&health.blocks(false))).to_string();
        assert_eq!(
            shown(&health),
            "https://r.example answers in 12 ms (192.0.2.1:443); it asks for a token\n"
        );
        (health.oci, health.reachable, health.latency_ms, health.address) = (false, false, None, None);
        (health.auth, health.detail) = (RegistryAuth::Unknown, Some("nobody is there".to_owned()));
        assert_eq!(shown(&health), "https://r.example does not answer\n");
        assert_eq!(health.notes().len(), 1);
    }
}
