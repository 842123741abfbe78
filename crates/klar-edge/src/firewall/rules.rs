//! The rules of an app, compiled.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use klar_base::upstreams::{self, RefusedRules, RuleFiles, WafRules};
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
    /// Where requests go that these stop; nowhere from those that are only tried.
    pub stopped: Option<Arc<Stopped>>,
    /// Those that cannot be honoured.
    refused: Vec<Refused>,
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
        let rules = Self::compile(wanted.clone(), files, Some(stopped.clone()))?;
        for one in rules.refused.iter().take(NAMED) {
            eprintln!("edge: {app}: a rule of the firewall does not run: {one}");
        }
        if rules.refused.len() > NAMED {
            eprintln!("edge: {app}: {} more rules of the firewall do not run", rules.refused.len() - NAMED);
        }
        Ok(rules)
    }

    /// Those that cannot be honoured, if there are any.
    pub fn refused(&self) -> Option<RefusedRules> {
        let first = self.refused.first()?.to_string();
        Some(RefusedRules { count: self.refused.len() as u32, first })
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
        let rules = Self::compile(wanted, self.file.as_slice(), None)?;
        let own = |rules: &Self| rules.refused.iter().filter(|one| &*one.place.file == OWN).count();
        match rules.refused.iter().rfind(|one| &*one.place.file == OWN) {
            Some(refused) if own(&rules) > own(self) => Err(refused.to_string()),
            _ => Ok(rules),
        }
    }

    fn compile(
        wanted: upstreams::Waf,
        files: &[Arc<OwnedFd>],
        stopped: Option<Arc<Stopped>>,
    ) -> Result<Self, String> {
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
        Ok(Self { waf, stopped, refused, wanted, file })
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
