//! Tokens for those who test and measure: written into a coordinator's database before it starts, for nobody can ask it for
//! one before.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sifleet_common::role::Role;
use sifleet_common::time::UnixMillis;
use sifleet_coordinator::access::secret::Secret;
use sifleet_coordinator::store::token::{TokenNo, TokenRecord};
use sifleet_coordinator::store::{Op, sqlite};

/// One token for each role.
#[derive(Clone, Debug)]
pub struct Callers {
    tokens: [(Role, Secret); 3],
    folder: PathBuf,
}

impl Callers {
    /// Makes tokens, and files below `folder` that hold them.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let tokens = [(Role::Viewer, 1), (Role::Operator, 2), (Role::Admin, 3)];
        let tokens = tokens.map(|(role, no)| (role, Secret::make(TokenNo(no))));
        let callers = Self { tokens, folder: folder.to_owned() };
        for (role, secret) in &callers.tokens {
            let path = callers.file(*role);
            let mut file =
                fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
            writeln!(file, "{}", secret.reveal())?;
        }
        Ok(callers)
    }

    /// Has a coordinator that does not run know them from its next start on, unless it has a database already.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn introduce(&self, state_dir: &Path) -> anyhow::Result<()> {
        let database = state_dir.join("coordinator.db");
        if database.exists() {
            return Ok(());
        }
        fs::create_dir_all(state_dir)?;
        let record = |(role, secret): &(Role, Secret)| TokenRecord {
            no: secret.no,
            name: "harness".to_owned(),
            role: *role,
            hash: secret.hash(),
            created: UnixMillis(0),
            expires: UnixMillis(i64::MAX),
            last_used: None,
            revoked: None,
        };
        let ops = self.tokens.iter().map(|token| Op::PutToken { record: Box::new(record(token)) }).collect();
        let write = move || -> anyhow::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let (store, _) = sqlite::open(&database)?;
            runtime.block_on(async {
                store.commit(ops).await?;
                Ok(store.close().await?)
            })
        };
        // Whoever calls may be within a runtime, where none may be waited for.
        std::thread::spawn(write).join().ok().context("the writer of tokens panicked")?
    }

    /// Returns the file that holds a token.
    #[must_use]
    pub fn file(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{role}.token"))
    }

    /// Returns what a bearer sends as `Authorization`.
    #[must_use]
    pub fn bearer(&self, role: Role) -> String {
        let secret = self.tokens.iter().find(|(of, _)| *of == role).map(|(_, secret)| secret.reveal());
        format!("Bearer {}", secret.unwrap_or_default())
    }
}
