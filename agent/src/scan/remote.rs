//! File systems that other nodes change without the kernel of this one noticing.
//!
//! Owns the list. On these inotify reports only what is done on this node, so events are not enough.
//! Outside facts: include/uapi/linux/magic.h of Linux 6.12; of those outside the kernel, GNU coreutils src/stat.c.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

/// Tells whether an open file lies on such a file system; true when it does not say.
pub(crate) fn holds(file: impl AsFd) -> bool {
    fstatfs(file).map_or(true, |stat| kind(stat.f_type).is_some())
}

/// Names the kind of a file system that does not report changes made on other nodes.
///
/// FUSE counts: whether there is a network behind it, nobody can tell.
pub(super) fn kind(magic: impl Into<i64>) -> Option<&'static str> {
    const KINDS: [(u32, &str); 16] = [
        (0x0000_6969, "NFS"),
        (0x0000_517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB"),
        (0x0bd0_0bd0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x1983_0326, "BeeGFS"),
        (0x00c3_6400, "CephFS"),
        (0xaad7_aaea, "PanFS"),
        (0x2003_0528, "OrangeFS"),
        (0x5346_414f, "AFS"),
        (0x6b41_4653, "AFS"),
        (0x0102_1997, "9P"),
        (0x7461_636f, "OCFS2"),
        (0x0116_1970, "GFS2"),
        (0x6573_5546, "FUSE"),
    ];
    // The kernel's number has 32 bits; whether it is extended with its sign depends on the processor.
    let magic = magic.into() & 0xffff_ffff;
    KINDS.iter().find(|(known, _)| i64::from(*known) == magic).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_apart_from_local_ones() {
        assert_eq!(kind(0x6969), Some("NFS"));
        assert_eq!(kind(0xff53_4d42_i64), Some("CIFS"));
        assert_eq!(kind(i64::from(0xff53_4d42_u32.cast_signed())), Some("CIFS"));
        for local in [0xef53, 0x5846_5342, 0x0102_1994, 0x9123_683e_i64] {
            assert_eq!(kind(local), None, "{local:x}");
        }
    }
}
