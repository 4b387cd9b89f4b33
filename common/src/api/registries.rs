//! Bodies of `/v1/registries` and of the older paths `/container_registry`, `/container_registries` and
//! `/check_container_health`, whose fields have longer names and whose answers are wrapped.

use std::fmt;

use serde_json::{Map, Value};

super::body! {
    /// An external registry to be written down. Each field may be written with `container_registry_` before its name.
    #[serde(deny_unknown_fields)]
    pub struct RegistryRequest {
        /// Names it for good: 1 to 64 letters, digits, `-`, `_` and `.`; made if not said.
        #[serde(default, skip_serializing_if = "Option::is_none", alias = "container_registry_id")]
        #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))]
        pub id: Option<String>,
        /// What people call it: 1 to 64 printable characters that no other registry has.
        #[serde(alias = "container_registry_name")]
        #[cfg_attr(feature = "openapi", schema(pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,64}$"))]
        pub name: String,
        /// Where it answers, such as `https://registry.example:5000`.
        #[serde(alias = "container_registry_public_url")]
        #[cfg_attr(feature = "openapi", schema(pattern = "^https?://[^/@?#]+/?$", max_length = 2048))]
        pub public_url: String,
        /// What names of its images begin with, such as `registry.example:5000/team`.
        #[serde(default, skip_serializing_if = "String::is_empty", alias = "container_registry_image_prefix")]
        pub image_prefix: String,
        /// Words to find it by.
        #[serde(default, skip_serializing_if = "Vec::is_empty", alias = "container_registry_tags")]
        pub tags: Vec<String>,
        /// Whatever people want to know of it.
        #[serde(default, skip_serializing_if = "Map::is_empty", alias = "container_registry_metadata")]
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub metadata: Map<String, Value>,
        /// How it is set up. Secrets do not belong here: it is shown to everybody who may read.
        #[serde(default, skip_serializing_if = "Map::is_empty", alias = "container_registry_config")]
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub config: Map<String, Value>,
        /// Where it keeps its images: `storage_type`, `storage_size`, `memory_size`, `registry_type`.
        #[serde(default, skip_serializing_if = "Map::is_empty", alias = "container_registry_storage_info")]
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub storage_info: Map<String, Value>,
    }

    /// What is to change of a registry.
    #[serde(deny_unknown_fields)]
    pub struct RegistryChange {
        /// Values by field, or by path below one such as `metadata.owner`. The id is not changed.
        #[serde(rename = "$set")]
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub set: Map<String, Value>,
    }

    /// Which registries are asked for, in the words of MongoDB: `$in $nin $eq $ne $gt $gte $lt $lte $exists $regex $and $or
    /// $not` and dotted paths; `{}` asks for all.
    #[serde(transparent)]
    pub struct RegistryQuery {
        /// The question.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub filter: Map<String, Value>,
    }

    /// An external registry.
    pub struct RegistryBody {
        /// Names it for good.
        pub id: String,
        /// What people call it.
        pub name: String,
        /// Whatever people want to know of it.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub metadata: Map<String, Value>,
        /// Words to find it by.
        pub tags: Vec<String>,
        /// Where it answers.
        pub public_url: String,
        /// What names of its images begin with.
        pub image_prefix: String,
        /// How it is set up.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub config: Map<String, Value>,
        /// Where it keeps its images.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub storage_info: Map<String, Value>,
        /// Whether we have credentials for it, which nobody is shown.
        pub has_credentials: bool,
        /// When it was written down.
        pub created: String,
        /// When it was last changed.
        pub changed: String,
    }

    /// Registries, by name.
    pub struct RegistryList {
        /// The registries.
        pub registries: Vec<RegistryBody>,
        /// When this was true.
        pub as_of: String,
    }

    /// What came of looking at a registry.
    pub struct RegistryHealth {
        /// Which.
        pub id: String,
        /// Where it was looked.
        pub url: String,
        /// Whether somebody answered there at all.
        pub reachable: bool,
        /// Whether the answer was that of an OCI registry, open or not.
        pub oci: bool,
        /// Whether one has to sign in.
        pub auth: RegistryAuth,
        /// The status of `GET /v2/`.
        pub status: Option<u16>,
        /// The header `Docker-Distribution-API-Version`, if there was one.
        pub api_version: Option<String>,
        /// The address that was asked.
        pub address: Option<String>,
        /// How long the answer took, connecting included, in milliseconds.
        pub latency_ms: Option<u64>,
        /// Why there was no answer of a registry, as a stable word: `refused_address`, `no_such_name`, `unreachable`,
        /// `timed_out`, `tls`, `not_http`, `not_a_registry`.
        pub problem: Option<String>,
        /// The same, for people.
        pub detail: Option<String>,
        /// When it was looked.
        pub as_of: String,
    }

    /// Whether one has to sign in at a registry.
    #[derive(Copy)]
    #[serde(rename_all = "snake_case")]
    pub enum RegistryAuth {
        /// Anybody is let in.
        None,
        /// A name and a password with each request.
        Basic,
        /// A token, which another service makes.
        Bearer,
        /// It asks for something else, or nobody answered.
        Unknown,
    }

    /// An external registry in the older form.
    pub struct ContainerRegistry {
        /// Names it for good.
        pub container_registry_id: String,
        /// What people call it.
        pub container_registry_name: String,
        /// Whatever people want to know of it.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub container_registry_metadata: Map<String, Value>,
        /// Words to find it by.
        pub container_registry_tags: Vec<String>,
        /// Where it answers.
        pub container_registry_public_url: String,
        /// What names of its images begin with.
        pub container_registry_image_prefix: String,
        /// How it is set up.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub container_registry_config: Map<String, Value>,
        /// Where it keeps its images.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub container_registry_storage_info: Map<String, Value>,
    }

    /// One registry in the older form.
    pub struct ContainerRegistryAnswer {
        /// Always true: what goes wrong is a problem document.
        pub success: bool,
        /// The registry.
        pub data: ContainerRegistry,
    }

    /// Registries in the older form.
    pub struct ContainerRegistriesAnswer {
        /// Always true: what goes wrong is a problem document.
        pub success: bool,
        /// The registries, by name.
        pub data: Vec<ContainerRegistry>,
    }

    /// What was done, in the older form.
    pub struct ContainerRegistryDone {
        /// Always true: what goes wrong is a problem document.
        pub success: bool,
        /// What was done, and to which registry.
        pub data: ContainerRegistryMessage,
    }

    /// What was done to which registry.
    pub struct ContainerRegistryMessage {
        /// What was done.
        pub message: String,
        /// To which registry.
        pub id: String,
    }

    /// What came of looking at a registry, in the older form.
    pub struct ContainerHealthAnswer {
        /// Always true: it was looked; what came of it is in `data`.
        pub success: bool,
        /// What came of it.
        pub data: RegistryHealth,
    }
}

/// With what to sign in at a registry. Never shown again.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CredentialsRequest {
    /// The user: 1 to 256 characters without `:`.
    pub username: String,
    /// The password, or a token in its place: 1 to 4,096 characters.
    pub password: String,
    /// The service on another host that makes the registry's tokens and may see them, such as
    /// `https://auth.example`; without it they go to the registry's own host and to no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
}

impl fmt::Debug for CredentialsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsRequest").field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl RegistryAuth {
    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::Unknown => "unknown",
        }
    }
}

impl From<RegistryBody> for ContainerRegistry {
    fn from(body: RegistryBody) -> Self {
        Self {
            container_registry_id: body.id,
            container_registry_name: body.name,
            container_registry_metadata: body.metadata,
            container_registry_tags: body.tags,
            container_registry_public_url: body.public_url,
            container_registry_image_prefix: body.image_prefix,
            container_registry_config: body.config,
            container_registry_storage_info: body.storage_info,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_may_be_written_with_the_longer_names() {
        let long = r#"{"container_registry_id":"b3c38f52","container_registry_name":"internal","container_registry_tags":["ai"],
            "container_registry_public_url":"http://10.13.21.22:32633","container_registry_config":{"auth_required":true}}"#;
        let short = r#"{"id":"b3c38f52","name":"internal","tags":["ai"],"public_url":"http://10.13.21.22:32633",
            "config":{"auth_required":true}}"#;
        let (long, short): (RegistryRequest, RegistryRequest) =
            (serde_json::from_str(long).unwrap(), serde_json::from_str(short).unwrap());
        assert_eq!(long, short);
        let both = r#"{"name":"a","container_registry_name":"b","public_url":"http://a"}"#;
        assert!(serde_json::from_str::<RegistryRequest>(both).is_err());
    }
}
