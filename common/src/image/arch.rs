//! The processors that images are made for.
//!
//! Owns the list and its three spellings: SIF's two digits, Go's name, and what `uname -m` prints.
//! Outside facts: apptainer/sif v2 pkg/sif/arch.go; loong64 is the youngest on it;
//! apptainer internal/pkg/util/machine/machine.go (which processor runs what).

use std::fmt;

macro_rules! architectures {
    ($($(#[$doc:meta])* $variant:ident $code:literal $name:literal,)*) => {
        /// Names the processor an image is made for, as Go and SIF do.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum Arch {
            /// Not said, or not on SIF's list.
            #[default]
            #[serde(rename = "unknown")]
            Unknown,
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        /// Written by hand: the derive macro does not see names that another macro passes on.
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for Arch {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .enum_values(Some(["unknown", $($name),*]))
                    .description(Some("Names the processor an image is made for, as Go and SIF do."))
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for Arch {}

        impl Arch {
            /// Returns Go's name for it, such as `amd64`; `unknown` where SIF has none.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::Unknown => "unknown",
                    $(Self::$variant => $name,)*
                }
            }

            /// Reads SIF's two-digit code; anything else is [`Arch::Unknown`].
            #[must_use]
            pub fn of_sif_code(code: &[u8]) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }

            /// Reads Go's name for it; anything else is [`Arch::Unknown`].
            #[must_use]
            pub fn of_go_name(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

architectures! {
    /// Intel, 32 bits.
    I386 b"01" "386",
    /// Intel and AMD, 64 bits.
    Amd64 b"02" "amd64",
    /// ARM, 32 bits.
    Arm b"03" "arm",
    /// ARM, 64 bits.
    Arm64 b"04" "arm64",
    /// PowerPC, big-endian.
    Ppc64 b"05" "ppc64",
    /// PowerPC, little-endian.
    Ppc64le b"06" "ppc64le",
    /// MIPS, 32 bits, big-endian.
    Mips b"07" "mips",
    /// MIPS, 32 bits, little-endian.
    Mipsle b"08" "mipsle",
    /// MIPS, 64 bits, big-endian.
    Mips64 b"09" "mips64",
    /// MIPS, 64 bits, little-endian.
    Mips64le b"10" "mips64le",
    /// IBM Z.
    S390x b"11" "s390x",
    /// RISC-V, 64 bits.
    Riscv64 b"12" "riscv64",
    /// LoongArch, 64 bits.
    Loong64 b"13" "loong64",
}

impl Arch {
    /// Tells whether this processor runs what is made for `image`: the same, or the 32-bit forerunner it includes.
    ///
    /// An unknown processor on either side is believed to run it. Emulation (binfmt_misc) is not asked for.
    #[must_use]
    pub const fn runs(self, image: Self) -> bool {
        match (self, image) {
            (Self::Unknown, _)
            | (_, Self::Unknown)
            | (Self::Amd64, Self::I386)
            | (Self::Arm64, Self::Arm)
            | (Self::Mips64, Self::Mips)
            | (Self::Mips64le, Self::Mipsle) => true,
            (node, image) => node as usize == image as usize,
        }
    }

    /// Reads what `uname -m` prints; for MIPS, which it prints alike for both byte orders, the big-endian one.
    #[must_use]
    pub fn of_machine(machine: &str) -> Self {
        match machine {
            "x86_64" => Self::Amd64,
            "i386" | "i486" | "i586" | "i686" => Self::I386,
            "aarch64" => Self::Arm64,
            "loongarch64" => Self::Loong64,
            arm if arm.starts_with("armv") => Self::Arm,
            same => Self::of_go_name(same),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_the_arch_that_apptainer_gives_it() {
        for (machine, arch) in [
            ("x86_64", "amd64"),
            ("i686", "386"),
            ("aarch64", "arm64"),
            ("armv7l", "arm"),
            ("ppc64le", "ppc64le"),
            ("s390x", "s390x"),
            ("riscv64", "riscv64"),
            ("loongarch64", "loong64"),
            ("pdp11", "unknown"),
        ] {
            assert_eq!(Arch::of_machine(machine).to_string(), arch);
        }
    }

    #[test]
    fn a_processor_runs_its_own_images_and_those_of_the_forerunner_it_includes() {
        for (node, image, runs) in [
            (Arch::Amd64, Arch::Amd64, true),
            (Arch::Amd64, Arch::I386, true),
            (Arch::I386, Arch::Amd64, false),
            (Arch::Amd64, Arch::Arm64, false),
            (Arch::Arm64, Arch::Arm, true),
            (Arch::Arm, Arch::Arm64, false),
            (Arch::Mips64, Arch::Mips, true),
            (Arch::Mips64, Arch::Mipsle, false),
            (Arch::Mips64le, Arch::Mipsle, true),
            (Arch::Mips64le, Arch::Mips64, false),
            (Arch::Ppc64le, Arch::Ppc64, false),
            (Arch::Amd64, Arch::Unknown, true),
            (Arch::Unknown, Arch::Amd64, true),
        ] {
            assert_eq!(node.runs(image), runs, "{image} on {node}");
        }
    }

    #[test]
    fn an_arch_is_written_in_json_as_go_writes_it() {
        assert_eq!(serde_json::to_string(&Arch::I386).unwrap(), "\"386\"");
        assert_eq!(serde_json::from_str::<Arch>("\"amd64\"").unwrap(), Arch::Amd64);
    }

    #[cfg(feature = "openapi")]
    #[test]
    fn the_schema_names_processors_as_the_json_does() {
        let schema = serde_json::to_value(<Arch as utoipa::PartialSchema>::schema()).unwrap();
        let named = schema["enum"].as_array().unwrap();
        for arch in [Arch::Unknown, Arch::Amd64, Arch::Arm64, Arch::Riscv64] {
            assert!(named.contains(&serde_json::to_value(arch).unwrap()), "{arch:?} in {schema}");
        }
    }
}
