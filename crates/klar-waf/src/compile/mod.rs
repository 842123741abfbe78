//! Makes a program of rules: names become numbers, expressions are built, and what cannot be honoured is refused.

mod constants;
mod fold;
mod relay;
mod targets;
mod watch;

pub(crate) use targets::is_kept;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::operator::{ByteRange, Comparison, Expression, IpSet, Phrases};
use crate::program::{
    Chain, Change, Control, Disruptive, Key, Link, NONE, Name, Operator, Pick, Piece, Program, Rule,
    Selection, SetVar, Settings, Template, Variable, Verify, View,
};
use crate::seclang::{
    self, Action, Collection, Ctl, Item, Mode, OperatorKind, Place, Refused, RuleSet, Text, Which,
};

/// The number of the next program.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Gives the contents of a file that a rule names: the file the rule stands in, and the name as the rule has it.
pub type Files<'a> = &'a dyn Fn(&str, &str) -> Option<Vec<u8>>;

/// What came of a set of rules.
pub(crate) struct Compiled {
    pub program: Program,
    /// What cannot be honoured; none of these rules runs.
    pub refused: Vec<Refused>,
}

/// Compiles all rules of a set. One that cannot be honoured is left out and said.
pub(crate) fn compile(set: &RuleSet, files: Files<'_>) -> Compiled {
    let (mut compiler, mut refused) = read(set, files);
    let mut folded = compiler.fold();
    refused.extend(compiler.unsettled(&mut folded.is_dead));
    compiler.program.initial = folded.initial;
    compiler.program.members = members(&compiler.program);
    compiler.program.watch = watch::watch(&compiler.program, &folded.is_dead);
    Compiled { program: compiler.program, refused }
}

/// The same program with nothing decided beforehand or at a glance, no rule asleep and no answer remembered.
#[cfg(test)]
pub(crate) fn compile_plainly(set: &RuleSet, files: Files<'_>) -> Compiled {
    let (compiler, refused) = read(set, files);
    let mut program = compiler.program;
    program.initial = vec![crate::engine::Kept::Unset; program.slots.len()];
    program.members = members(&program);
    program.watch = watch::watch(&program, &[]);
    program.watch.always.fill(u64::MAX);
    program.watch.also.clear();
    program.watch.relays.clear();
    // Nobody has to be woken.
    program.watch.groups = 0;
    program.is_plain = true;
    Compiled { program, refused }
}

fn read<'a>(set: &RuleSet, files: Files<'a>) -> (Compiler<'a>, Vec<Refused>) {
    let mut compiler = Compiler {
        program: Program { chains: vec![Chain { before: 0, last: None }], ..Program::default() },
        files,
        chains: HashMap::new(),
        views: HashMap::new(),
        selections: HashMap::new(),
        templates: HashMap::new(),
        constants: HashMap::new(),
        expressions: HashMap::new(),
        unsettled: HashMap::new(),
        tags: Vec::new(),
    };
    compiler.program.settings = settings(&set.settings);
    let mut refused = Vec::new();
    // Marks to go on at: for each phase how many of its rules stand before them.
    let mut marks: HashMap<&str, [u32; 5]> = HashMap::new();
    let mut skips = Vec::new();
    for item in &set.items {
        match item {
            Item::Marker(_, name) => drop(marks.insert(name, compiler.lengths())),
            Item::Rule(rule) => match compiler.rule(rule) {
                Ok(skip) => skips.extend(skip),
                Err((place, reason)) => refused.push(Refused { place, id: rule.id(), reason }),
            },
        }
    }
    for (rule, skip) in skips {
        compiler.program.rules[rule as usize].then = match skip {
            Skip::Rules(place) => place,
            Skip::After(mark) => {
                let phase = usize::from(compiler.program.rules[rule as usize].phase - 1);
                // A number is a rule to go on behind, anything else a marker; where there is none, the phase ends.
                let by_number = || compiler.behind(phase, mark.parse().ok()?);
                marks.get(mark.as_str()).map(|places| places[phase]).or_else(by_number).unwrap_or(NONE - 1)
            }
        };
    }
    // Only now all rules are known.
    compiler.controls(set, &mut refused);
    let picks = compiler.program.selections.iter().flat_map(|selection| &selection.picks);
    let costly = [Collection::ArgsPath, Collection::FilesTmpContent];
    let used =
        costly.into_iter().filter(|costly| picks.clone().any(|pick| pick.collection == *costly)).collect();
    compiler.program.used = used;
    compiler.program.number = NUMBER.fetch_add(1, Ordering::Relaxed);
    (compiler, refused)
}

/// What expressions choose of the variables whose names stand in the rules.
fn members(program: &Program) -> Vec<Option<Box<[u32]>>> {
    let mut members = vec![None; program.expressions.len()];
    for pick in program.selections.iter().flat_map(|selection| &selection.picks) {
        if let Key::Matching(at) = pick.key
            && is_kept(pick.collection)
            && let Some(expression) = program.expressions.get(at as usize)
        {
            let named = program.slots.iter().enumerate().filter(|(_, (_, name))| expression.is_match(name));
            members[at as usize] = Some(named.map(|(slot, _)| place(slot)).collect());
        }
    }
    members
}

fn settings(said: &seclang::Settings) -> Settings {
    let usual = Settings::default();
    let bytes =
        |said: Option<u64>, usual| said.map_or(usual, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    Settings {
        mode: said.engine.unwrap_or(Mode::On),
        request_body_limit: bytes(said.request_body_limit, usual.request_body_limit),
        request_body_no_files_limit: bytes(
            said.request_body_no_files_limit,
            usual.request_body_no_files_limit,
        ),
        request_work_limit: said.request_work_limit.unwrap_or(usual.request_work_limit),
        response_body_limit: bytes(said.response_body_limit, usual.response_body_limit),
        request_body: said.request_body_access.unwrap_or(usual.request_body),
        response_body: said.response_body_access.unwrap_or(usual.response_body),
        arguments: said.arguments_limit.map_or(usual.arguments, |count| count as usize),
        depth: said.json_depth_limit.map_or(usual.depth, |levels| levels as usize),
        separator: said.argument_separator.unwrap_or(usual.separator),
    }
}

/// Where to go on after a match.
enum Skip {
    /// At this place of its phase.
    Rules(u32),
    After(String),
}

/// Why a link cannot be honoured, and where it stands.
type Reason = (Place, String);

struct Compiler<'a> {
    program: Program,
    files: Files<'a>,
    chains: HashMap<Chain, u32>,
    views: HashMap<View, u32>,
    selections: HashMap<Selection, u32>,
    templates: HashMap<Template, u32>,
    constants: HashMap<Box<[u8]>, u32>,
    /// By pattern, and by whether its groups are captured.
    expressions: HashMap<(String, bool), u32>,
    /// Of each rule, for what removes rules by their tags or messages.
    /// Why links have a pattern still, where that is known.
    unsettled: HashMap<u32, String>,
    tags: Vec<(Vec<String>, Option<String>)>,
}

/// The place of `new` in a list, where it is put if it is not there.
fn intern<T: Clone + Eq + std::hash::Hash>(known: &mut HashMap<T, u32>, list: &mut Vec<T>, new: T) -> u32 {
    *known.entry(new).or_insert_with_key(|new| {
        list.push(new.clone());
        place(list.len() - 1)
    })
}

/// A place in a list of the program. Rules are read from files of a team's own: there are far fewer than 2^32.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}

impl Compiler<'_> {
    /// How many rules each phase has by now.
    fn lengths(&self) -> [u32; 5] {
        std::array::from_fn(|phase| place(self.program.phases[phase].len()))
    }

    /// The place behind a rule, by its number.
    fn behind(&self, phase: usize, id: u32) -> Option<u32> {
        let rules = &self.program.phases[phase];
        rules.iter().position(|rule| self.program.rules[*rule as usize].id == id).map(|at| place(at + 1))
    }

    /// Adds a rule; gives where it goes on when it matches, if not with the next one.
    fn rule(&mut self, rule: &seclang::Rule) -> Result<Option<(u32, Skip)>, Reason> {
        let head = rule.links.first();
        let at = head.map(|head| head.place.clone()).unwrap_or(Place { file: "".into(), line: 0 });
        let Some(id) = rule.id() else { return Err((at, "a rule has no id".into())) };
        let first = place(self.program.links.len());
        let mut made = Rule {
            id,
            phase: rule.phase().clamp(1, 5),
            links: first..first,
            disruptive: Disruptive::Pass,
            status: 403,
            log: true,
            severity: None,
            msg: None,
            tags: Vec::new(),
            then: NONE,
            file: at.file.clone(),
            line: at.line,
        };
        let mut links = Vec::new();
        for link in &rule.links {
            links.push(self.link(link).map_err(|reason| (link.place.clone(), reason))?);
        }
        let mut skip = None;
        let (mut tags, mut msg) = (Vec::new(), None);
        for (number, action) in rule
            .links
            .iter()
            .enumerate()
            .flat_map(|(number, link)| link.actions.iter().map(move |action| (number, action)))
        {
            match action {
                Action::Disruptive(disruptive) if number == 0 => {
                    made.disruptive = self.disruptive(disruptive).map_err(|reason| (at.clone(), reason))?;
                }
                Action::Status(status) => made.status = *status,
                Action::Log(log) => made.log = *log,
                Action::Severity(severity) => made.severity = Some(*severity),
                Action::Msg(text) => {
                    msg = Some(text.to_string());
                    made.msg = Some(self.words(text));
                }
                Action::Tag(tag) => {
                    tags.push(tag.to_string());
                    let tag = self.words(tag);
                    made.tags.push(tag);
                }
                Action::SkipAfter(mark) => skip = Some(Skip::After(mark.clone())),
                Action::Skip(count) => {
                    let phase = usize::from(made.phase - 1);
                    let here = place(self.program.phases[phase].len());
                    skip = Some(Skip::Rules(here.saturating_add(1).saturating_add(*count)));
                }
                _ => {}
            }
        }
        let number = place(self.program.rules.len());
        made.links.end = first + place(links.len());
        self.program.links.extend(links);
        self.program.phases[usize::from(made.phase - 1)].push(number);
        self.program.rules.push(made);
        self.tags.push((tags, msg));
        Ok(skip.map(|skip| (number, skip)))
    }

    fn disruptive(&mut self, said: &seclang::Disruptive) -> Result<Disruptive, String> {
        Ok(match said {
            seclang::Disruptive::Pass | seclang::Disruptive::Block => Disruptive::Pass,
            seclang::Disruptive::Deny => Disruptive::Deny,
            seclang::Disruptive::Drop => Disruptive::Drop,
            seclang::Disruptive::Allow(allow) => Disruptive::Allow(*allow),
            seclang::Disruptive::Redirect(to) => Disruptive::Redirect(self.words(to)),
            seclang::Disruptive::Proxy(_) => {
                return Err("`proxy` is not supported; write a route instead".into());
            }
        })
    }

    fn link(&mut self, link: &seclang::Link) -> Result<Link, String> {
        let mut made = Link {
            view: None,
            slot: None,
            count: None,
            operator: Operator::Unconditional,
            negated: link.operator.negated,
            // One that holds where nothing is found has found nothing; and what it finds where it does not hold must not
            // be left behind for others, who may be asked whether it ran or not.
            capture: link.actions.contains(&Action::Capture) && !link.operator.negated,
            each: Vec::new(),
            sets: Vec::new(),
            controls: Vec::new(),
            log_data: None,
        };
        made.operator = self.operator(link)?;
        if !link.targets.is_empty() {
            let selection = self.selection(&link.targets)?;
            let mut chain = 0;
            let mut chains = vec![0];
            for action in &link.actions {
                if let Action::Transform(transformation) = action {
                    let next = Chain { before: chain, last: Some(*transformation) };
                    chain = intern(&mut self.chains, &mut self.program.chains, next).max(1);
                    chains.push(chain);
                }
            }
            made.view = Some(self.view(selection, chain));
            if chain == 0 && matches!(made.operator, Operator::Compare(..)) {
                made.slot = self.only_slot(selection);
                made.count = self.only_count(selection);
            }
            if link.actions.contains(&Action::MultiMatch) {
                made.each = chains.into_iter().map(|chain| self.view(selection, chain)).collect();
            }
        }
        for action in &link.actions {
            match action {
                Action::SetVar(set) => {
                    let set = self.set(set);
                    made.sets.push(set);
                }
                Action::LogData(text) => made.log_data = Some(self.words(text)),
                _ => {}
            }
        }
        Ok(made)
    }

    fn view(&mut self, selection: u32, chain: u32) -> u32 {
        let plain = View { selection, chain: 0, plain: NONE };
        let plain_at = intern(&mut self.views, &mut self.program.views, plain);
        if chain == 0 {
            return plain_at;
        }
        intern(&mut self.views, &mut self.program.views, View { selection, chain, plain: plain_at })
    }

    /// Whether a selection is one variable and nothing else.
    fn only_slot(&self, selection: u32) -> Option<(u32, bool)> {
        let selection = self.program.selections.get(selection as usize)?;
        match (selection.picks.as_slice(), selection.excepts.as_slice()) {
            ([Pick { key: Key::Slot(slot), count, .. }], []) => Some((*slot, *count)),
            _ => None,
        }
    }

    /// What a selection counts, if that is all.
    fn only_count(&self, selection: u32) -> Option<Pick> {
        let selection = self.program.selections.get(selection as usize)?;
        match (selection.picks.as_slice(), selection.excepts.as_slice()) {
            ([pick], []) if pick.count && !targets::changes(pick.collection) => Some(pick.clone()),
            _ => None,
        }
    }

    fn operator(&mut self, link: &seclang::Link) -> Result<Operator, String> {
        let operator = &link.operator;
        let constant = || operator.argument.as_plain();
        let must_be_plain =
            || constant().ok_or_else(|| "its argument may not have variables in it".to_owned());
        if let Some(comparison) = Comparison::of(operator.kind) {
            return Ok(Operator::Compare(comparison, self.template(&operator.argument)));
        }
        Ok(match operator.kind {
            OperatorKind::UnconditionalMatch => Operator::Unconditional,
            OperatorKind::NoMatch => Operator::Never,
            OperatorKind::Rx => {
                let captures = link.actions.contains(&Action::Capture);
                match constant() {
                    Some(pattern) => Operator::Expression(self.expression(&pattern, captures)?),
                    None => Operator::Pattern(self.template(&operator.argument), captures),
                }
            }
            // Without a database and without a key there is nothing to find, for ModSecurity as well; that these are not
            // read is said where they are named.
            OperatorKind::GeoLookup => Operator::Never,
            OperatorKind::Rbl if constant().as_deref() == Some("dnsbl.httpbl.org") => Operator::Never,
            OperatorKind::Pm => {
                self.phrases(Phrases::from_argument(&must_be_plain()?).map_err(|error| error.to_string())?)
            }
            OperatorKind::PmFromFile => {
                let names = must_be_plain()?;
                let text = self.read(link, &names)?;
                self.phrases(Phrases::from_file(&text).map_err(|error| error.to_string())?)
            }
            OperatorKind::IpMatch => {
                let set = IpSet::parse(&must_be_plain()?).map_err(|error| error.to_string())?;
                self.program.addresses.push(set);
                Operator::Address(place(self.program.addresses.len() - 1))
            }
            OperatorKind::IpMatchFromFile => {
                let names = must_be_plain()?;
                let text = self.read(link, &names)?;
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<&str> =
                    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
                let set = IpSet::parse(&lines.join(",")).map_err(|error| error.to_string())?;
                self.program.addresses.push(set);
                Operator::Address(place(self.program.addresses.len() - 1))
            }
            OperatorKind::DetectCmd => Operator::Command,
            OperatorKind::DetectSsrf => Operator::InnerAddress,
            OperatorKind::DetectSqli => Operator::Sqli,
            OperatorKind::DetectXss => Operator::Xss,
            OperatorKind::ValidateByteRange => {
                let range = ByteRange::parse(&must_be_plain()?).map_err(|error| error.to_string())?;
                self.program.ranges.push(range);
                Operator::ByteRange(place(self.program.ranges.len() - 1))
            }
            OperatorKind::ValidateUrlEncoding => Operator::UrlEncoding,
            OperatorKind::ValidateUtf8Encoding => Operator::Utf8,
            OperatorKind::BeginsWith => Operator::BeginsWith(self.template(&operator.argument)),
            OperatorKind::EndsWith => Operator::EndsWith(self.template(&operator.argument)),
            OperatorKind::Contains | OperatorKind::StrMatch => {
                Operator::Contains(self.template(&operator.argument))
            }
            OperatorKind::ContainsWord => Operator::ContainsWord(self.template(&operator.argument)),
            OperatorKind::StrEq => Operator::StrEq(self.template(&operator.argument)),
            OperatorKind::Within => Operator::Within(self.template(&operator.argument)),
            OperatorKind::VerifyCc => {
                Operator::Verify(self.expression(&must_be_plain()?, false)?, Verify::Cc)
            }
            OperatorKind::VerifyCpf => {
                Operator::Verify(self.expression(&must_be_plain()?, false)?, Verify::Cpf)
            }
            OperatorKind::VerifySsn => {
                Operator::Verify(self.expression(&must_be_plain()?, false)?, Verify::Ssn)
            }
            OperatorKind::VerifySvnr => {
                Operator::Verify(self.expression(&must_be_plain()?, false)?, Verify::Svnr)
            }
            other => return Err(format!("the operator {other:?} is not supported")),
        })
    }

    /// Refuses rules with a pattern that is not known before a request is.
    fn unsettled(&self, is_dead: &mut [bool]) -> Vec<Refused> {
        let mut refused = Vec::new();
        for (rule, is_dead) in self.program.rules.iter().zip(is_dead).filter(|(_, is_dead)| !**is_dead) {
            let links = self.program.links.get(rule.links.start as usize..rule.links.end as usize);
            let is_open = |link: &Link| matches!(link.operator, Operator::Pattern(..));
            let open = links.and_then(|links| links.iter().position(is_open));
            if let Some(at) = open {
                *is_dead = true;
                let known = self.unsettled.get(&(rule.links.start + place(at))).cloned();
                let reason = known.unwrap_or_else(|| {
                    "its expression has variables in it that are not known beforehand".to_owned()
                });
                let place = Place { file: rule.file.clone(), line: rule.line };
                refused.push(Refused { place, id: Some(rule.id), reason });
            }
        }
        refused
    }

    fn phrases(&mut self, phrases: Phrases) -> Operator {
        self.program.phrases.push(phrases);
        Operator::Phrases(place(self.program.phrases.len() - 1))
    }

    /// The files that a rule names, one behind the other.
    fn read(&self, link: &seclang::Link, names: &str) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        for name in names.split_whitespace() {
            let text =
                (self.files)(&link.place.file, name).ok_or_else(|| format!("there is no file {name}"))?;
            all.extend_from_slice(&text);
            all.push(b'\n');
        }
        Ok(all)
    }

    fn expression(&mut self, pattern: &str, captures: bool) -> Result<u32, String> {
        let key = (pattern.to_owned(), captures);
        if let Some(known) = self.expressions.get(&key) {
            return Ok(*known);
        }
        let made = Expression::new(pattern.as_bytes(), captures).map_err(|error| error.to_string())?;
        self.program.expressions.push(made);
        let at = place(self.program.expressions.len() - 1);
        self.expressions.insert(key, at);
        Ok(at)
    }

    fn set(&mut self, set: &seclang::SetVar) -> SetVar {
        let name = match set.name.as_plain() {
            Some(name) => Name::Slot(self.slot(set.collection, &name)),
            None => Name::Made(set.collection, self.template(&set.name)),
        };
        let number = |text: &Text| text.as_plain()?.trim().parse::<i64>().ok();
        let change = match &set.change {
            seclang::Change::Unset => Change::Unset,
            // Only what is written as a number writes itself is kept as one.
            seclang::Change::To(text) => {
                match number(text).filter(|number| Some(number.to_string()) == text.as_plain()) {
                    Some(number) => Change::ToNumber(number),
                    None => Change::To(self.template(text)),
                }
            }
            seclang::Change::Add(text) => match number(text) {
                Some(number) => Change::AddNumber(number),
                None => Change::Add(self.template(text)),
            },
            seclang::Change::Subtract(text) => match number(text) {
                Some(number) => Change::AddNumber(number.saturating_neg()),
                None => Change::Subtract(self.template(text)),
            },
        };
        SetVar { name, change }
    }

    fn slot(&mut self, collection: Collection, name: &str) -> u32 {
        let variable: Variable = (collection, name.to_ascii_lowercase().into_bytes().into());
        intern(&mut self.program.slot_of, &mut self.program.slots, variable)
    }

    /// What `ctl` does, now that every rule has its place.
    fn controls(&mut self, set: &RuleSet, refused: &mut Vec<Refused>) {
        let rules: Vec<&seclang::Rule> = set
            .items
            .iter()
            .filter_map(|item| match item {
                Item::Rule(rule) => Some(rule),
                Item::Marker(..) => None,
            })
            .collect();
        let places: HashMap<u32, u32> =
            self.program.rules.iter().enumerate().map(|(at, rule)| (rule.id, place(at))).collect();
        for rule in rules {
            let Some(at) = rule.id().and_then(|id| places.get(&id)) else { continue };
            let first = self.program.rules[*at as usize].links.start as usize;
            for (number, link) in rule.links.iter().enumerate() {
                for action in &link.actions {
                    let Action::Ctl(ctl) = action else { continue };
                    match self.control(ctl) {
                        Ok(control) => self.program.links[first + number].controls.extend(control),
                        Err(reason) => {
                            refused.push(Refused { place: link.place.clone(), id: rule.id(), reason });
                        }
                    }
                }
            }
        }
    }

    fn control(&mut self, ctl: &Ctl) -> Result<Option<Control>, String> {
        Ok(Some(match ctl {
            Ctl::RemoveRules(which) => Control::RemoveRules(self.which(which)?),
            Ctl::RemoveTarget(which, target) => {
                let pick = self.pick(target)?;
                Control::RemoveTarget(self.which(which)?, pick)
            }
            Ctl::BodyProcessor(processor) => Control::Processor(*processor),
            Ctl::ForceRequestBody(is_on) => Control::ForceBody(*is_on),
            Ctl::RequestBodyAccess(is_on) => Control::RequestBody(*is_on),
            Ctl::ResponseBodyAccess(is_on) => Control::ResponseBody(*is_on),
            Ctl::RequestBodyLimit(bytes) => Control::RequestBodyLimit(*bytes),
            Ctl::ResponseBodyLimit(bytes) => Control::ResponseBodyLimit(*bytes),
            Ctl::Engine(mode) => Control::Mode(*mode),
            Ctl::Audit(..) => return Ok(None),
        }))
    }

    fn which(&self, which: &Which) -> Result<Box<[u32]>, String> {
        let numbered = || self.program.rules.iter().enumerate().map(|(at, rule)| (place(at), rule));
        Ok(match which {
            Which::Ids(ranges) => numbered()
                .filter(|(_, rule)| ranges.iter().any(|range| range.contains(&rule.id)))
                .map(|(at, _)| at)
                .collect(),
            Which::Tag(pattern) => {
                let pattern =
                    Expression::new(pattern.as_bytes(), false).map_err(|error| error.to_string())?;
                let has =
                    |at: u32| self.tags[at as usize].0.iter().any(|tag| pattern.is_match(tag.as_bytes()));
                numbered().map(|(at, _)| at).filter(|at| has(*at)).collect()
            }
            Which::Msg(pattern) => {
                let pattern =
                    Expression::new(pattern.as_bytes(), false).map_err(|error| error.to_string())?;
                let has = |at: u32| {
                    self.tags[at as usize].1.as_ref().is_some_and(|msg| pattern.is_match(msg.as_bytes()))
                };
                numbered().map(|(at, _)| at).filter(|at| has(*at)).collect()
            }
        })
    }

    fn template(&mut self, text: &Text) -> u32 {
        let template = match text.as_plain() {
            Some(plain) => Template::Constant(self.constant(plain.as_bytes())),
            None => Template::Mixed(text.0.iter().map(|piece| self.piece(piece)).collect()),
        };
        intern(&mut self.templates, &mut self.program.templates, template)
    }

    /// A text that is only ever said: it is no constant, for those are copied for each request.
    fn words(&mut self, text: &Text) -> u32 {
        let template = Template::Mixed(text.0.iter().map(|piece| self.piece(piece)).collect());
        intern(&mut self.templates, &mut self.program.templates, template)
    }

    fn piece(&mut self, piece: &seclang::Piece) -> Piece {
        match piece {
            seclang::Piece::Plain(text) => Piece::Plain(text.as_bytes().into()),
            seclang::Piece::Variable(collection, Some(name)) if targets::is_kept(*collection) => {
                Piece::Slot(self.slot(*collection, name))
            }
            seclang::Piece::Variable(collection, name) => {
                let name = name.as_ref().map(|name| name.to_ascii_lowercase().into_bytes().into());
                Piece::Value(*collection, name)
            }
        }
    }
}
