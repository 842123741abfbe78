//! Applies to rules what other directives say of them.
//!
//! What removes rules or changes them works wherever it stands, before them or behind them, as in libmodsecurity; in
//! ModSecurity 2 it has to stand behind them. Of `SecDefaultAction` a rule takes the last one before it, or else the
//! first one behind it: the same for every set of rules that libmodsecurity takes, for there each phase has one alone.
//!
//! Links of a chain are judged one by one: what names a rule by its number changes its first link, which has it. Tags
//! and messages are looked for with expressions, as the manual says; libmodsecurity compares them whole.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem::discriminant;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::{
    Action, Directive, Disruptive, LimitAction, Link, Mode, Place, Refused, Rule, Setting, Target, Which,
    repeated,
};

/// Rules that are ready to be compiled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleSet {
    /// Rules and markers in their order.
    ///
    /// The first link of each rule has one [`Action::Id`], one [`Action::Phase`] and one [`Action::Disruptive`], which
    /// is not [`Disruptive::Block`]. No link has [`Action::NoTransformation`], and of what can be said once only the
    /// last word is there.
    pub items: Vec<Item>,
    /// What is set for all requests.
    pub settings: Settings,
    /// What cannot be honoured: numbers that are taken, expressions that are none.
    pub refused: Vec<Refused>,
    /// What changes rules, where there is none that it would change: harmless, and maybe a slip of the pen.
    pub idle: Vec<Refused>,
}

/// A rule, or a place to go on at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A rule with all that it does.
    Rule(Rule),
    /// Where `skipAfter` leads to.
    Marker(Place, String),
}

/// What is set for all requests: the last word on each. `None` where nothing was said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Whether rules block.
    pub engine: Option<Mode>,
    /// Whether bodies of requests are looked at.
    pub request_body_access: Option<bool>,
    /// Whether bodies of responses are looked at.
    pub response_body_access: Option<bool>,
    /// In bytes.
    pub request_body_limit: Option<u64>,
    /// In bytes, without the files in it.
    pub request_body_no_files_limit: Option<u64>,
    /// In bytes, read by all rules together.
    pub request_work_limit: Option<u64>,
    /// What is done about a longer one.
    pub request_body_limit_action: Option<LimitAction>,
    /// In bytes.
    pub response_body_limit: Option<u64>,
    /// What is done about a longer one.
    pub response_body_limit_action: Option<LimitAction>,
    /// Which responses are looked at, by their types: all that were named.
    pub response_body_types: Option<Vec<String>>,
    /// Levels of JSON.
    pub json_depth_limit: Option<u32>,
    /// Files in one body.
    pub upload_file_limit: Option<u32>,
    /// Arguments in one request.
    pub arguments_limit: Option<u32>,
    /// What stands between arguments.
    pub argument_separator: Option<u8>,
    /// Which application this is.
    pub web_app_id: Option<String>,
    /// All sets of rules that say their names.
    pub components: Vec<String>,
    /// What has no meaning here, by name and value.
    pub without_meaning: Vec<(Place, String, String)>,
}

/// Applies the directives of all files, in the order in which the files are read, to each other.
#[must_use]
pub fn resolve(directives: Vec<Directive>) -> RuleSet {
    let (repeated, refused): (Vec<usize>, Vec<Refused>) = repeated(&directives).into_iter().unzip();
    let mut repeated = repeated.into_iter().peekable();
    let mut set = RuleSet { refused, ..RuleSet::default() };
    let (mut rules, mut defaults, mut changes) = (Rules::default(), Defaults::default(), Vec::new());
    for (at, directive) in directives.into_iter().enumerate() {
        match directive {
            Directive::Rule(rule) => {
                if repeated.next_if_eq(&at).is_none() {
                    rules.items.push(Some(Item::Rule(rule)));
                }
            }
            Directive::Marker(place, name) => rules.items.push(Some(Item::Marker(place, name))),
            Directive::DefaultAction(_, actions) => defaults.push(rules.items.len(), actions),
            Directive::Remove(place, which) => changes.push((place, which, What::Gone)),
            Directive::UpdateTargets(place, which, targets) => {
                changes.push((place, which, What::Targets(targets)));
            }
            Directive::UpdateActions(place, which, actions) => {
                changes.push((place, which, What::Actions(actions)));
            }
            Directive::Setting(place, setting) => set.settings.set(place, setting),
        }
    }
    rules.number();
    let mut gone = Vec::new();
    for (place, which, what) in changes {
        match rules.named(&which) {
            Err(reason) => set.refused.push(Refused { place, id: None, reason }),
            Ok(links) if links.is_empty() => {
                let reason = "no rule answers to this".to_owned();
                set.idle.push(Refused { place, id: None, reason });
            }
            Ok(links) => links.into_iter().for_each(|link| match &what {
                What::Gone if link.1 == 0 => gone.push(link.0),
                What::Gone => {}
                What::Targets(targets) => rules.look_at(link, targets),
                What::Actions(actions) => rules.do_also(link, actions),
            }),
        }
    }
    for at in gone {
        if let Some(item) = rules.items.get_mut(at) {
            *item = None;
        }
    }
    let finished = rules.items.into_iter().enumerate().filter_map(|(at, item)| match item? {
        Item::Rule(rule) => Some(Item::Rule(finish(rule, &defaults, at))),
        marker => Some(marker),
    });
    set.items = finished.collect();
    set
}

/// What becomes of rules.
enum What {
    Gone,
    Targets(Vec<Target>),
    Actions(Vec<Action>),
}

/// Rules that may still change. A link is known by its item and by its place in the chain.
#[derive(Default)]
struct Rules {
    items: Vec<Option<Item>>,
    numbers: Vec<(u32, (usize, usize))>,
}

impl Rules {
    /// Makes a list of all numbers.
    fn number(&mut self) {
        let mut numbers = Vec::new();
        self.each(|at, link| {
            numbers.extend(link.actions.iter().filter_map(|action| match action {
                Action::Id(id) => Some((*id, at)),
                _ => None,
            }));
        });
        numbers.sort_unstable();
        self.numbers = numbers;
    }

    fn each(&self, mut act: impl FnMut((usize, usize), &Link)) {
        for (at, item) in self.items.iter().enumerate() {
            if let Some(Item::Rule(rule)) = item {
                rule.links.iter().enumerate().for_each(|(link_at, link)| act((at, link_at), link));
            }
        }
    }

    fn link(&mut self, (item, link): (usize, usize)) -> Option<&mut Link> {
        match self.items.get_mut(item) {
            Some(Some(Item::Rule(rule))) => rule.links.get_mut(link),
            _ => None,
        }
    }

    /// Links that a directive is about, each once.
    fn named(&self, which: &Which) -> Result<Vec<(usize, usize)>, String> {
        let mut found = Vec::new();
        match which {
            Which::Ids(ranges) => {
                for range in ranges {
                    let from = self.numbers.partition_point(|(id, _)| id < range.start());
                    let to = self.numbers.partition_point(|(id, _)| id <= range.end());
                    let within = self.numbers.get(from..to).unwrap_or_default();
                    found.extend(within.iter().map(|(_, at)| *at));
                }
                found.sort_unstable();
                found.dedup();
            }
            Which::Tag(pattern) => {
                let pattern = expression(pattern)?;
                self.each(|at, link| {
                    if link.actions.iter().any(|action| {
                        matches!(action, Action::Tag(tag) if pattern.is_match(tag.to_string().as_bytes()))
                    }) {
                        found.push(at);
                    }
                });
            }
            Which::Msg(pattern) => {
                let pattern = expression(pattern)?;
                self.each(|at, link| {
                    if link.actions.iter().any(|action| {
                        matches!(action, Action::Msg(msg) if pattern.is_match(msg.to_string().as_bytes()))
                    }) {
                        found.push(at);
                    }
                });
            }
        }
        Ok(found)
    }

    /// More targets, or exceptions from them; not for what looks at nothing.
    fn look_at(&mut self, at: (usize, usize), targets: &[Target]) {
        if let Some(link) = self.link(at).filter(|link| !link.targets.is_empty()) {
            link.targets.extend_from_slice(targets);
        }
    }

    fn do_also(&mut self, at: (usize, usize), actions: &[Action]) {
        if let Some(link) = self.link(at) {
            actions.iter().for_each(|action| put(&mut link.actions, action.clone()));
        }
    }
}

/// An expression as tags and messages are searched with.
fn expression(pattern: &str) -> Result<Regex, String> {
    Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .build(pattern)
        .map_err(|error| format!("{pattern} is no expression: {error}"))
}

/// Adds an action; of what can be said once, it replaces what was said before.
fn put(actions: &mut Vec<Action>, action: Action) {
    match &action {
        Action::Transform(_)
        | Action::NoTransformation
        | Action::Tag(_)
        | Action::SetVar(_)
        | Action::ExpireVar(..)
        | Action::InitCol(..)
        | Action::Ctl(_) => {}
        Action::Note(name, _) => actions.retain(|own| !matches!(own, Action::Note(own, _) if own == name)),
        Action::Set(name, _) if name != "setenv" => {
            actions.retain(|own| !matches!(own, Action::Set(own, _) if own == name));
        }
        Action::Set(..) => {}
        single => actions.retain(|own| discriminant(own) != discriminant(single)),
    }
    actions.push(action);
}

/// What rules of a phase do that do not say it themselves.
#[derive(Default)]
struct Defaults {
    /// By phase: before which item each stands.
    phases: BTreeMap<u8, Vec<(usize, Vec<Action>)>>,
}

impl Defaults {
    fn push(&mut self, before: usize, actions: Vec<Action>) {
        let phase = actions.iter().find_map(|action| match action {
            Action::Phase(phase) => Some(*phase),
            _ => None,
        });
        self.phases.entry(phase.unwrap_or(Rule::PHASE)).or_default().push((before, actions));
    }

    /// Those of a rule.
    fn of(&self, phase: u8, item: usize) -> &[Action] {
        let all = self.phases.get(&phase).map_or(&[][..], Vec::as_slice);
        let before = all.partition_point(|(before, _)| *before <= item);
        all.get(before.saturating_sub(1)).map_or(&[], |(_, actions)| actions)
    }
}

/// A rule with what it does by default, and without what that or another word of its own replaces.
fn finish(mut rule: Rule, defaults: &Defaults, item: usize) -> Rule {
    let phase = rule.phase();
    let defaults = defaults.of(phase, item);
    for (at, link) in rule.links.iter_mut().enumerate() {
        let own = std::mem::take(&mut link.actions);
        for action in defaults {
            let is_for_it = match action {
                Action::Transform(_) => !own.contains(&Action::NoTransformation),
                Action::Disruptive(_) | Action::Phase(_) => false,
                _ => at == 0,
            };
            if is_for_it {
                put(&mut link.actions, action.clone());
            }
        }
        own.into_iter().for_each(|action| put(&mut link.actions, action));
        transformations(&mut link.actions);
        if at == 0 {
            let ending = disruptive(&link.actions, defaults);
            put(&mut link.actions, Action::Phase(phase));
            put(&mut link.actions, Action::Disruptive(ending));
        } else {
            link.actions.retain(|action| !matches!(action, Action::Phase(_)));
        }
    }
    rule
}

/// Takes out transformations that `t:none` stands behind.
fn transformations(actions: &mut Vec<Action>) {
    let Some(last) = actions.iter().rposition(|action| *action == Action::NoTransformation) else { return };
    let mut at = 0;
    actions.retain(|action| {
        at += 1;
        *action != Action::NoTransformation && !(at <= last && matches!(action, Action::Transform(_)))
    });
}

/// What ends a request that a rule matches: its own word, or for `block` the one by default. Nothing does where there
/// is neither, and where the rule says nothing of it.
fn disruptive(own: &[Action], defaults: &[Action]) -> Disruptive {
    let last = |actions: &[Action]| {
        actions.iter().rev().find_map(|action| match action {
            Action::Disruptive(disruptive) => Some(disruptive.clone()),
            _ => None,
        })
    };
    match last(own) {
        Some(Disruptive::Block) => last(defaults).unwrap_or(Disruptive::Pass),
        Some(disruptive) => disruptive,
        None => Disruptive::Pass,
    }
}

impl Settings {
    fn set(&mut self, place: Place, setting: Setting) {
        match setting {
            Setting::Engine(mode) => self.engine = Some(mode),
            Setting::RequestBodyAccess(is_on) => self.request_body_access = Some(is_on),
            Setting::ResponseBodyAccess(is_on) => self.response_body_access = Some(is_on),
            Setting::RequestBodyLimit(bytes) => self.request_body_limit = Some(bytes),
            Setting::RequestBodyNoFilesLimit(bytes) => self.request_body_no_files_limit = Some(bytes),
            Setting::RequestWorkLimit(bytes) => self.request_work_limit = Some(bytes),
            Setting::RequestBodyLimitAction(action) => self.request_body_limit_action = Some(action),
            Setting::ResponseBodyLimit(bytes) => self.response_body_limit = Some(bytes),
            Setting::ResponseBodyLimitAction(action) => self.response_body_limit_action = Some(action),
            Setting::ResponseBodyTypes(types) => {
                self.response_body_types.get_or_insert_default().extend(types);
            }
            Setting::ResponseBodyTypesClear => self.response_body_types = Some(Vec::new()),
            Setting::JsonDepthLimit(levels) => self.json_depth_limit = Some(levels),
            Setting::UploadFileLimit(files) => self.upload_file_limit = Some(files),
            Setting::ArgumentsLimit(arguments) => self.arguments_limit = Some(arguments),
            Setting::ArgumentSeparator(separator) => self.argument_separator = Some(separator),
            Setting::Component(name) => self.components.push(name),
            Setting::WebAppId(name) => self.web_app_id = Some(name),
            Setting::WithoutMeaning(name, value) => self.without_meaning.push((place, name, value)),
        }
    }
}
