//! Bodies of `GET /v1/limits` and `PATCH /v1/limits`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

super::body! {
    /// How fast bytes of images may move, and who is held to less. Rates are bytes a second; absent: no limit.
    pub struct LimitsBody {
        /// What all nodes together may fetch; divided evenly among those that fetch.
        pub total: Option<u64>,
        /// What each node may send to others.
        pub up: Option<u64>,
        /// What each node may fetch.
        pub down: Option<u64>,
        /// How many images each node fetches at once; absent: what the settings of its agent say.
        pub concurrent: Option<u16>,
        /// What each busy node may send to others; the lower of this and `up` counts.
        pub busy_up: Option<u64>,
        /// What each busy node may fetch; the lower of this and `down` counts.
        pub busy_down: Option<u64>,
        /// How many images each busy node fetches at once; the lower of this and `concurrent` counts.
        pub busy_concurrent: Option<u16>,
        /// Nodes that are busy: those that somebody marked, and those on which Slurm runs jobs.
        pub busy: String,
        /// Those of them that somebody marked.
        pub marked: String,
        /// Among how many nodes that fetch the total is divided at present.
        pub divided: u32,
        /// What each of them may fetch of the total; absent without a total.
        pub share: Option<u64>,
        /// When this was true.
        pub as_of: String,
    }

    /// What is to be different: what is left out stays as it is, null lifts a limit.
    #[derive(Copy, Default)]
    #[serde(deny_unknown_fields)]
    pub struct LimitsChange {
        /// What all nodes together may fetch, in bytes a second; 100,000 to a trillion.
        #[serde(default, skip_serializing_if = "Said::is_nothing")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>, minimum = 100_000, maximum = 1_000_000_000_000_i64))]
        pub total: Said<u64>,
        /// What each node may send to others, in bytes a second; 100,000 to a trillion.
        #[serde(default, skip_serializing_if = "Said::is_nothing")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>, minimum = 100_000, maximum = 1_000_000_000_000_i64))]
        pub up: Said<u64>,
        /// What each node may fetch, in bytes a second; 100,000 to a trillion.
        #[serde(default, skip_serializing_if = "Said::is_nothing")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>, minimum = 100_000, maximum = 1_000_000_000_000_i64))]
        pub down: Said<u64>,
        /// How many images each node fetches at once, 1 to 64; null: what the settings of its agent say.
        #[serde(default, skip_serializing_if = "Said::is_nothing")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<u16>, minimum = 1, maximum = 64))]
        pub concurrent: Said<u16>,
        /// What each busy node may send to others, in bytes a second; 100,000 to a trillion.
        #[serde(default, skip_serializing_if = "Said::is_nothing")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>, minimum = 100_000, maximum = 1_000_000_000_000_i64))]
        pub busy_up: Said<u64>,
        /// What each busy node may fetch, in bytes a second; 100,000 to a trillion.
        #[serde(default, skip_serializing_if = "Said::is_nothing")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>, minimum = 100_000, maximum = 1_000_000_000_000_i64))]
        pub busy_down: Said<u64>,
        /// How many images each busy node fetches at once, 1 to 64.
        #[serde(default, skip_serializing_if = "Said::is_nothing")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<u16>, minimum = 1, maximum = 64))]
        pub busy_concurrent: Said<u16>,
    }
}

/// What is said of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Said<T> {
    /// Nothing: it stays as it is.
    #[default]
    Nothing,
    /// There is to be none.
    NoLimit,
    /// How much it is to be.
    At(T),
}

impl<T: Copy> Said<T> {
    /// Tells whether it stays as it is.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Returns what a limit is afterwards.
    #[must_use]
    pub const fn over(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Nothing => before,
            Self::NoLimit => None,
            Self::At(limit) => Some(limit),
        }
    }

    /// Returns how much it is to be, if that is said.
    #[must_use]
    pub const fn at(self) -> Option<T> {
        self.over(None)
    }
}

impl<T: Copy + Serialize> Serialize for Said<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.at().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Said<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::NoLimit, Self::At))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_stays_and_null_lifts() {
        let text = r#"{"up":500000,"down":null}"#;
        let change: LimitsChange = serde_json::from_str(text).unwrap();
        assert_eq!((change.total, change.up, change.down), (Said::Nothing, Said::At(500_000), Said::NoLimit));
        assert_eq!(serde_json::to_string(&change).unwrap(), text);
        assert_eq!(
            (change.total.over(Some(1)), change.up.over(Some(1)), change.down.over(Some(1))),
            (Some(1), Some(500_000), None)
        );
        assert!(serde_json::from_str::<LimitsChange>(r#"{"upp":1}"#).is_err());
    }
}
