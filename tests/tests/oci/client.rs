//! A client that says exactly what it is told to say, and a cluster to say it to.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use sifleet_common::role::Role;
use sifleet_coordinator::oci::digest::{Algorithm, OciDigest};
use sifleet_tests::cluster::{COORDINATOR, Cluster, LIMIT, Plan};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const SIF_LAYER: &str = "application/vnd.sylabs.sif.layer.v1.sif";
const SIF_CONFIG: &str = "application/vnd.sylabs.sif.config.v1+json";

/// A cluster whose head node watches the library, and who asks it.
pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    agent: ureq::Agent,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&self.body)))
    }

    /// Fails unless the status is as expected.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }

    /// Fails unless it is a refusal with this code.
    #[track_caller]
    pub(crate) fn says(self, status: u16, code: &str) -> Self {
        let answer = self.is(status);
        assert_eq!(answer.json()["errors"][0]["code"], code, "{}", answer.json());
        assert!(answer.json()["errors"][0]["message"].is_string());
        answer
    }
}

impl Lab {
    pub(crate) fn start(name: &'static str) -> Self {
        Self::with(name, "", vec!["head"])
    }

    /// Starts a cluster with more settings of the coordinator.
    pub(crate) fn with(name: &'static str, settings: &str, nodes: Vec<&'static str>) -> Self {
        Self::laid_out(name, &[(COORDINATOR, settings)], nodes)
    }

    /// Starts a cluster with more settings of its programs, by their names.
    pub(crate) fn laid_out(name: &'static str, more: &[(&str, &str)], nodes: Vec<&'static str>) -> Self {
        let partitions = BTreeMap::from([("viz", "viz001")]);
        let lease = Duration::from_secs(10);
        let plan = Plan { name, partitions, nodes, library: Some("head"), lease };
        let mut cluster = Cluster::lay_out(plan).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        for (program, settings) in more {
            let file = cluster.folder().join(format!("{program}.toml"));
            writeln!(fs::File::options().append(true).open(file).unwrap(), "\n{settings}").unwrap();
        }
        let head = cluster.folder().join("head.toml");
        let agent = fs::read_to_string(&head).unwrap();
        fs::write(head, agent.replace("library = true", "library = true\nreceive = true")).unwrap();
        cluster.start_all().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
        Self { cluster, agent }
    }

    pub(crate) fn send(
        &self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.cluster.url())
        });
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", self.cluster.callers().bearer(Role::Operator));
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let answered = match body {
            Some(body) => self.agent.run(request.body(body).unwrap()),
            None if matches!(method, "POST" | "PUT" | "PATCH") => {
                self.agent.run(request.body(&b""[..]).unwrap())
            }
            None => self.agent.run(request.body(()).unwrap()),
        };
        let mut answer = answered.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let limit = answer.body_mut().with_config().limit(1 << 30);
        let body = limit.read_to_vec().unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        Answer { status: answer.status().as_u16(), headers, body }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(("GET", path), &[], None)
    }

    pub(crate) fn head(&self, path: &str) -> Answer {
        self.send(("HEAD", path), &[], None)
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send(("DELETE", path), &[], None)
    }

    /// Begins an upload; returns where it goes on.
    pub(crate) fn begin(&self, repository: &str) -> String {
        let begun = self.send(("POST", &format!("/v2/{repository}/blobs/uploads/")), &[], None).is(202);
        begun.header("location").to_owned()
    }

    /// Pushes a blob with one request for its bytes.
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> OciDigest {
        let digest = Algorithm::Sha256.of(bytes);
        let place = self.begin(repository);
        self.send(("PUT", &format!("{place}?digest={digest}")), &[], Some(bytes)).is(201);
        digest
    }

    pub(crate) fn put_manifest(&self, path: &str, kind: &str, manifest: &Value) -> Answer {
        let bytes = serde_json::to_vec(manifest).unwrap();
        self.send(("PUT", path), &[("content-type", kind)], Some(&bytes))
    }

    /// Pushes an artifact that is no image, and returns its manifest's bytes and digest.
    pub(crate) fn push_artifact(
        &self,
        repository: &str,
        reference: &str,
        seed: &str,
    ) -> (Vec<u8>, OciDigest) {
        let layer = self.push_blob(repository, seed.as_bytes());
        let config = self.push_blob(repository, b"{}");
        let manifest = artifact(&config, (&layer, seed.len()));
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let digest = Algorithm::Sha256.of(&bytes);
        self.put_manifest(&format!("/v2/{repository}/manifests/{reference}"), IMAGE, &manifest).is(201);
        (bytes, digest)
    }

    /// Pushes an image as apptainer does.
    pub(crate) fn push_image(&self, repository: &str, tag: &str, bytes: &[u8]) -> Answer {
        let layer = self.push_blob(repository, bytes);
        let config = self.push_blob(repository, b"{}");
        let manifest = sif(&config, (&layer, bytes.len()));
        self.put_manifest(&format!("/v2/{repository}/manifests/{tag}"), IMAGE, &manifest)
    }

    /// Waits until the inventory shows an image in the library.
    pub(crate) fn wait_for_library(&self, name: &str) {
        let what = format!("the library shows {name}");
        let shown = || {
            let answer =
                self.cluster.get(&format!("/v1/images/{name}")).map_err(|error| error.to_string())?;
            let held = answer["summary"]["digests"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["in_library"] == true));
            if held { Ok(()) } else { Err(answer.to_string()) }
        };
        until(&what, LIMIT, shown).unwrap();
    }
}

/// Describes an artifact of one layer.
pub(crate) fn artifact(config: &OciDigest, (layer, size): (&OciDigest, usize)) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": "application/vnd.example.thing",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": config.to_string()},
        "layers": [{"mediaType": "text/plain", "size": size, "digest": layer.to_string()}],
        "annotations": {"org.example.note": "a"},
    })
}

/// Describes an image.
pub(crate) fn sif(config: &OciDigest, (layer, size): (&OciDigest, usize)) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": {"mediaType": SIF_CONFIG, "size": 2, "digest": config.to_string()},
        "layers": [{"mediaType": SIF_LAYER, "size": size, "digest": layer.to_string(),
            "annotations": {"org.opencontainers.image.title": "pushed.sif"}}],
    })
}

/// Makes an image.
pub(crate) fn image(seed: u64) -> Vec<u8> {
    SifBuilder::new().payload_bytes(200_000, seed).bytes()
}
