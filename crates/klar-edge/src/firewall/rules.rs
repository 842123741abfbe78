//! The rules of an app, compiled.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use klar_base::upstreams::{self, RuleFiles, WafRules};
use klar_waf::engine::Waf;
use klar_waf::rules;
use klar_waf::seclang::{self, Refused, Source};

use super::Stopped;

/// The longest file with rules, in bytes.
const FILE_MAX: u64 = 64 << 20;
/// So many rules that cannot be honoured are named.
const NAMED: usize = 10;
/// What the rules of `[waf]` are named after.
const OWN: &str = "klar.toml";

/// Rules that are ready to judge requests.
#[derive(Debug)]
pub struct Rules {
    pub waf: Waf,
    /// Where requests go that these stop.
    pub stopped: Arc<Stopped>,
    /// What they were made of.
    wanted: upstreams::Waf,
    file: Option<Arc<OwnedFd>>,
}

/// Tells rules apart: two with the same are the same.
pub type Key = (String, u8, String);

/// See [`Key`].
pub fn key(wanted: &upstreams::Waf) -> Key {
    let name = match &wanted.rules {
        WafRules::Core => "core".to_owned(),
        WafRules::Set { digest, .. } => format!("set {digest}"),
    };
    (name, wanted.paranoia, wanted.own.clone())
}

impl Rules {
    /// Compiles them. What cannot be honoured is said, for `app`.
    ///
    /// # Errors
    /// Why there is nothing to compile.
    pub fn new(
        app: &str,
        wanted: &upstreams::Waf,
        files: &[Arc<OwnedFd>],
        stopped: &Arc<Stopped>,
    ) -> Result<Self, String> {
        let (rules, refused) = Self::compile(wanted.clone(), files, stopped.clone())?;
        for one in refused.iter().take(NAMED) {
            eprintln!("edge: {app}: a rule of the firewall does not run: {one}");
        }
        if refused.len() > NAMED {
            eprintln!("edge: {app}: {} more rules of the firewall do not run", refused.len() - NAMED);
        }
        Ok(rules)
    }

    /// The same with more of an app's own.
    ///
    /// # Errors
    /// What of that cannot be honoured.
    pub fn with(&self, own: &str) -> Result<Self, String> {
        let mut wanted = self.wanted.clone();
        wanted.own.push_str(own);
        if let WafRules::Set { file, .. } = &mut wanted.rules {
            *file = 0;
        }
        let (rules, refused) = Self::compile(wanted, self.file.as_slice(), Arc::default())?;
        match refused.into_iter().find(|one| &*one.place.file == OWN) {
            Some(refused) => Err(refused.to_string()),
            None => Ok(rules),
        }
    }

    fn compile(
        wanted: upstreams::Waf,
        files: &[Arc<OwnedFd>],
        stopped: Arc<Stopped>,
    ) -> Result<(Self, Vec<Refused>), String> {
        let (set, file) = match &wanted.rules {
            WafRules::Core => (RuleFiles::default(), None),
            WafRules::Set { name, file, .. } => {
                let file =
                    files.get(*file).ok_or_else(|| format!("the rules of {name} did not come along"))?;
                let set = read(file).map_err(|why| format!("the rules of {name} cannot be read: {why}"))?;
                (set, Some(file.clone()))
            }
        };
        let settings = rules::settings(wanted.paranoia);
        let own = Source { name: OWN, text: &wanted.own };
        let mut sources = Vec::new();
        match &wanted.rules {
            WafRules::Core => {
                sources.push(own);
                sources.extend(rules::KLAR_CORE);
            }
            WafRules::Set { .. } => {
                sources.extend([rules::BASE, Source { name: "settings", text: &settings }, own]);
                sources.extend(set.rules.iter().map(|(name, text)| Source { name, text }));
            }
        }
        let mut refused = Vec::new();
        let mut directives = Vec::new();
        for source in &sources {
            let parsed = seclang::parse(source);
            refused.extend(parsed.refused);
            directives.extend(parsed.directives);
        }
        let resolved = seclang::resolve(directives);
        refused.extend(resolved.refused.iter().cloned());
        let beside = |_: &str, name: &str| {
            let name = name.rsplit('/').next().unwrap_or(name);
            let found = set.data.iter().find(|(its, _)| its.rsplit('/').next() == Some(name));
            found.map(|(_, contents)| contents.clone().into_bytes())
        };
        let (waf, more) = Waf::new(&resolved, &beside);
        refused.extend(more);
        Ok((Self { waf, stopped, wanted, file }, refused))
    }
}

fn read(file: &OwnedFd) -> Result<RuleFiles, String> {
    let file = file.try_clone().map_err(|error| error.to_string())?;
    let mut text = String::new();
    // Somebody may have read it before.
    let mut file = File::from(file);
    std::io::Seek::rewind(&mut file).map_err(|error| error.to_string())?;
    file.take(FILE_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}
