//! The rules of an app, compiled.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use klar_base::upstreams::{self, RefusedRules, RuleFiles, WafRules};
use klar_waf::engine::Waf;
use klar_waf::rules;
use klar_waf::seclang::{self, Action, Item, Refused, RuleSet, Source};

use super::Stopped;
use super::shadow::{Judge, Shadow};

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
    /// Stricter rules that look at a sample of what these let through.
    pub shadow: Option<Shadow>,
    /// From which paranoia level on a rule runs, where that is not the first.
    levels: BTreeMap<u32, u8>,
    /// Those that cannot be honoured.
    refused: Vec<Refused>,
    /// What they were made of.
    wanted: upstreams::Waf,
    file: Option<Arc<OwnedFd>>,
}

/// Tells rules apart: two with the same are the same.
pub type Key = (String, u8, String, Option<String>);

/// Where what rules have seen goes.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests that were stopped, or would have been.
    pub stopped: Arc<Stopped>,
    /// A sample of those that were let through.
    pub let_through: Arc<Judge>,
}

/// See [`Key`].
pub fn key(wanted: &upstreams::Waf) -> Key {
    let name = |rules: &WafRules| match rules {
        WafRules::Core => "core".to_owned(),
        WafRules::Set { digest, .. } => format!("set {digest}"),
    };
    (name(&wanted.rules), wanted.paranoia, wanted.own.clone(), wanted.shadow.as_ref().map(name))
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
        seen: &Seen,
    ) -> Result<Self, String> {
        let mut rules = Self::compile(wanted.clone(), files)?;
        rules.stopped = Some(seen.stopped.clone());
        if let Some(shadow) = &wanted.shadow {
            let strict =
                upstreams::Waf { rules: shadow.clone(), paranoia: 4, shadow: None, ..wanted.clone() };
            let rules_of_it = Arc::new(Self::compile(strict, files)?);
            rules.shadow = Some(Shadow { rules: rules_of_it, judge: seen.let_through.clone() });
        }
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
        let rules = Self::compile(wanted, self.file.as_slice())?;
        let own = |rules: &Self| rules.refused.iter().filter(|one| &*one.place.file == OWN).count();
        match rules.refused.iter().rfind(|one| &*one.place.file == OWN) {
            Some(refused) if own(&rules) > own(self) => Err(refused.to_string()),
            _ => Ok(rules),
        }
    }

    /// The same exceptions with other rules, to try.
    ///
    /// # Errors
    /// Why there is nothing to compile.
    pub fn other(&self, file: Option<Arc<OwnedFd>>, paranoia: u8) -> Result<Self, String> {
        let rules = match file {
            Some(_) => WafRules::Set { name: "what is tried".into(), file: 0, digest: String::new() },
            None => WafRules::Core,
        };
        let wanted = upstreams::Waf { rules, paranoia, own: self.wanted.own.clone(), shadow: None };
        Self::compile(wanted, file.as_slice())
    }

    /// From which paranoia level on a rule runs.
    pub fn level(&self, rule: u32) -> u8 {
        self.levels.get(&rule).copied().unwrap_or(1)
    }

    fn compile(wanted: upstreams::Waf, files: &[Arc<OwnedFd>]) -> Result<Self, String> {
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
        Ok(Self { waf, stopped: None, shadow: None, levels: levels(&resolved), refused, wanted, file })
    }
}

/// What the tags of a Core Rule Set say (`paranoia-level/2`).
fn levels(set: &RuleSet) -> BTreeMap<u32, u8> {
    let level = |item: &Item| {
        let Item::Rule(rule) = item else { return None };
        let level = rule.links.first()?.actions.iter().find_map(|action| match action {
            Action::Tag(tag) => tag.to_string().strip_prefix("paranoia-level/")?.parse().ok(),
            _ => None,
        })?;
        Some((rule.id()?, level))
    };
    set.items.iter().filter_map(level).filter(|(_, level)| *level > 1).collect()
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
