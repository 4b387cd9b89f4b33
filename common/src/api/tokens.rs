//! Bodies of `POST /v1/tokens`, `GET /v1/tokens` and `DELETE /v1/tokens/{id}`.
//!
//! A token lets its bearer act with a role. Tokens with which nodes enrol are another noun: [`super::enrolments`].

use crate::role::Role;

super::body! {
    /// What a token is to be good for.
    #[serde(deny_unknown_fields)]
    pub struct TokenRequest {
        /// Lets its bearer act with this role. Has to be said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Role, required = true))]
        pub role: Option<Role>,
        /// What it is for, in words for people: 1 to 64 printable characters, such as `dashboard`.
        #[cfg_attr(feature = "openapi", schema(pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,64}$"))]
        pub name: String,
        /// For how many seconds it is good: 60 to 31,536,000; 90 days if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(minimum = 60, maximum = 31_536_000))]
        pub ttl_s: Option<u64>,
    }

    /// One token, without its secret, which nobody is told again.
    pub struct TokenBody {
        /// What it is called, such as `t-000042`.
        pub id: String,
        /// What it is for.
        pub name: String,
        /// With which role its bearer acts.
        pub role: Role,
        /// Whether it is good, and if not why.
        pub state: TokenState,
        /// When it was made.
        pub created: String,
        /// Until when it is good.
        pub expires: String,
        /// When it was last used, give or take a minute.
        pub last_used: Option<String>,
        /// When it was revoked.
        pub revoked: Option<String>,
    }

    /// A token, shown with its secret this one time.
    pub struct TokenCreated {
        /// The token.
        pub token: TokenBody,
        /// What the bearer sends: `Authorization: Bearer sifleet_…`. It is stored nowhere.
        pub secret: String,
    }

    /// All tokens that are kept, newest first. Those that are not good any longer are kept for a month.
    pub struct TokenList {
        /// The tokens.
        pub tokens: Vec<TokenBody>,
        /// When this was true.
        pub as_of: String,
    }

    /// Whether a token is good.
    #[derive(Copy)]
    #[serde(rename_all = "snake_case")]
    pub enum TokenState {
        /// It is.
        Good,
        /// Its time is over.
        Expired,
        /// Somebody revoked it.
        Revoked,
    }
}

impl TokenState {
    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}
