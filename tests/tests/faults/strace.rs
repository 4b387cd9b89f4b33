//! How a program is started so that strace(1) makes one of its system calls fail, or kills it in front of one.

use std::path::PathBuf;

/// Returns the words to start it by: `fault` happens to `call` where it touches one of the paths.
pub(crate) fn words(paths: &[PathBuf], call: &str, fault: &str) -> Vec<String> {
    let mut words: Vec<String> = ["strace", "-f", "-qq", "-o", "/dev/null"].map(str::to_owned).to_vec();
    for path in paths {
        words.extend(["-P".to_owned(), path.display().to_string()]);
    }
    let injected = format!("inject={call}:{fault}");
    words.extend(["-e".to_owned(), format!("trace={call}"), "-e".to_owned(), injected, "--".to_owned()]);
    words
}
