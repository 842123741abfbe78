//! Runs the rules of a phase over what is known of a request.

use super::answers::{answers, compares_with, may_hold};
use super::caches::Caches;
use super::memory::{Hit, Item, Kept, Looked, Memory, Span, decimal, number};
use super::{Head, Interruption, Transaction};
use crate::bytes::Presence;
use crate::compile::is_kept;
use crate::operator::{GROUPS_MAX, LONG};
use crate::program::{
    Change, Control, Disruptive, Key, Link, NONE, Name, Operator, Pick, Piece, Program, Rule, Template,
};
use crate::seclang::{Allow, Collection, Mode};

/// What a request has of a kind is not looked at beyond so many hits of one rule: each is written down.
const HITS_MAX: usize = 4096;

impl Transaction<'_> {
    /// Runs one phase, from 1 to 5.
    pub(super) fn run(&mut self, caches: &Caches, phase: u8) {
        if self.mode == Mode::Off || (self.is_allowed && phase < 5) || (self.is_request_allowed && phase < 3)
        {
            return;
        }
        // What is known at start of the rules of a phase is so once phase 1 has been run.
        if phase == 1 {
            self.is_begun = true;
        } else if !self.is_begun {
            if phase == 5 {
                return;
            }
            let nothing =
                Head { method: b"", target: b"", protocol: b"", headers: &[], remote: b"", unique_id: b"" };
            self.line(&nothing);
            self.run(caches, 1);
            return self.run(caches, phase);
        }
        // What was looked at in the phase before may be more by now.
        self.memory.generation += 1;
        let program = self.program;
        let phase_at = usize::from(phase) - 1;
        let Some(rules) = program.phases.get(phase_at) else { return };
        // How an app answers is its own work.
        self.memory.work_max = if phase <= 2 { self.settings.request_work_limit } else { u64::MAX };
        self.sift(caches);
        if phase == 2 && self.is_exhausted() {
            self.say_exhausted();
            self.sift(caches);
        }
        let base = program.watch.bases.get(phase_at).map_or(0, |base| *base as usize * 64);
        let mut at = 0;
        while let Some(next) = next_bit(&self.memory.hot, base + at, base + rules.len()) {
            at = next - base;
            let Some(place) = rules.get(at) else { break };
            at += 1;
            if self
                .memory
                .removed
                .get(*place as usize / 64)
                .is_some_and(|bits| bits & (1 << (place % 64)) != 0)
            {
                continue;
            }
            let bit = number(next);
            if program.watch.also.binary_search_by_key(&bit, |(rule, _)| *rule).is_ok()
                && !self.memory.are_all_awake(&program.watch.also, bit)
            {
                continue;
            }
            let Some(rule) = program.rules.get(*place as usize) else { continue };
            let begun = caches.clock();
            let is_match = self.matches(program, caches, *place, rule);
            if begun.is_some() {
                caches.spent(begun, std::iter::once(rule.id), true);
            }
            if !is_match {
                continue;
            }
            if rule.then != NONE {
                at = at.max(rule.then as usize);
            }
            match rule.disruptive {
                Disruptive::Pass => {}
                Disruptive::Allow(allow) => {
                    match allow {
                        Allow::All => self.is_allowed = true,
                        Allow::Request => self.is_request_allowed = true,
                        Allow::Phase => {}
                    }
                    return;
                }
                Disruptive::Deny | Disruptive::Drop | Disruptive::Redirect(_) => {
                    if self.interruption.is_none() {
                        self.interruption = Some(self.interruption_by(program, *place, rule));
                    }
                    if self.mode == Mode::On && phase < 5 {
                        return;
                    }
                }
            }
            if self.mode == Mode::Off {
                return;
            }
        }
    }

    fn interruption_by(&mut self, program: &Program, place: u32, rule: &Rule) -> Interruption {
        let location = match rule.disruptive {
            Disruptive::Redirect(to) => {
                let mut text = Vec::new();
                self.expand(program, to, &mut text);
                Some(text)
            }
            _ => None,
        };
        Interruption {
            rule: rule.id,
            place,
            status: rule.status,
            closes: rule.disruptive == Disruptive::Drop,
            location,
            blocks: self.mode == Mode::On,
        }
    }

    /// Whether all links of a rule hold.
    fn matches(&mut self, program: &Program, caches: &Caches, place: u32, rule: &Rule) -> bool {
        self.memory.matched.clear();
        let first_hit = self.memory.hits.len();
        for link in rule.links.clone() {
            let Some(known) = program.links.get(link as usize) else { return false };
            if !self.holds(program, caches, place, rule, link, known) {
                self.memory.hits.truncate(first_hit);
                return false;
            }
        }
        if rule.log {
            if let Some(severity) = rule.severity {
                self.highest_severity = self.highest_severity.min(severity);
            }
        } else {
            self.memory.hits.truncate(first_hit);
        }
        true
    }

    fn holds(
        &mut self,
        program: &Program,
        caches: &Caches,
        place: u32,
        rule: &Rule,
        number: u32,
        link: &Link,
    ) -> bool {
        let Some(view) = link.view else {
            let nothing = Item { collection: Collection::Tx, name: Span::default(), raw: NONE, cell: NONE };
            self.found(program, rule, place, number, link, nothing);
            return true;
        };
        if !program.asks_in_full()
            && (self.compares(program, link) == Some(false) || self.counts(program, link) == Some(false))
        {
            return false;
        }
        let untargeted = self
            .memory
            .has_untargeted
            .get(place as usize / 64)
            .is_some_and(|bits| bits & (1 << (place % 64)) != 0);
        let temporary = self.memory.items.len();
        let mut is_found = false;
        let last = std::slice::from_ref(&view);
        let views = if link.each.is_empty() { last } else { link.each.as_slice() };
        for (round, view) in views.iter().enumerate() {
            let looked = self.look(program, *view);
            if !link.negated && !may_hold(program, link.operator, &looked.presence, looked.longest) {
                continue;
            }
            for at in looked.first..looked.end {
                let Some(item) = self.memory.items.get(at as usize).copied() else { break };
                if untargeted && self.is_untargeted(program, place, &item) {
                    continue;
                }
                // With `multiMatch`: a transformation that changed nothing is no new value.
                if round > 0 && self.is_same_as_before(program, views, round, &item) {
                    continue;
                }
                if !link.negated {
                    let presence = self.memory.presence(item.cell);
                    let Some(cell) = self.memory.cells.get(item.cell as usize) else { continue };
                    if !may_hold(program, link.operator, &presence, cell.len) {
                        continue;
                    }
                }
                let len = self.memory.cells.get(item.cell as usize).map_or(0, |cell| cell.len as usize);
                if len >= LONG && !self.memory.works(len, 1) {
                    continue;
                }
                if self.asks(program, caches, link, &item) != link.negated {
                    is_found = true;
                    self.found(program, rule, place, number, link, item);
                }
            }
        }
        // What changes from one rule to the next is looked at anew each time.
        if program.views.get(view as usize).is_some_and(|view| self.changes(program, view.selection)) {
            self.memory.items.truncate(temporary);
        }
        is_found
    }

    /// What a link says that compares the number of one variable with a number; `None` for any other.
    fn compares(&self, program: &Program, link: &Link) -> Option<bool> {
        let (Some((slot, counts)), Operator::Compare(comparison, template)) = (link.slot, link.operator)
        else {
            return None;
        };
        let kept = self.memory.slots.get(slot as usize).copied().unwrap_or_default();
        let value = match (counts, kept) {
            (true, kept) => i64::from(kept != Kept::Unset),
            // What is not there is not compared, and so no rule's negation either.
            (false, Kept::Unset) => return Some(false),
            (false, kept) => number_of(&self.memory, kept),
        };
        let argument = match program.templates.get(template as usize)? {
            Template::Constant(cell) => integer(self.memory.cell(*cell)),
            Template::Mixed(pieces) => match pieces.as_slice() {
                [Piece::Slot(slot)] => number_of(
                    &self.memory,
                    self.memory.slots.get(*slot as usize).copied().unwrap_or_default(),
                ),
                _ => return None,
            },
        };
        Some(comparison.compare(value, argument) != link.negated)
    }

    /// What a link says that compares how many there are of something with a number; `None` for any other.
    fn counts(&self, program: &Program, link: &Link) -> Option<bool> {
        let (Some(pick), Operator::Compare(comparison, template)) = (&link.count, link.operator) else {
            return None;
        };
        let Template::Constant(argument) = program.templates.get(template as usize)? else { return None };
        let entries = self.memory.list(pick.collection);
        let count = match &pick.key {
            Key::All if entries.is_empty() => usize::from(has_one(pick.collection)),
            Key::All => entries.len(),
            _ if entries.is_empty() && has_one(pick.collection) => 1,
            key => entries.iter().filter(|entry| takes(program, key, self.memory.span(entry.name))).count(),
        };
        let argument = integer(program.constant(*argument));
        Some(comparison.compare(i64::try_from(count).unwrap_or(i64::MAX), argument) != link.negated)
    }

    fn changes(&self, program: &Program, selection: u32) -> bool {
        program.selections.get(selection as usize).is_none_or(|selection| selection.changes)
    }

    fn is_same_as_before(&mut self, program: &Program, views: &[u32], round: usize, item: &Item) -> bool {
        let before = views.get(round - 1).and_then(|view| program.views.get(*view as usize));
        before.is_some_and(|before| self.memory.through(program, item.raw, before.chain) == item.cell)
    }

    fn is_untargeted(&self, program: &Program, rule: u32, item: &Item) -> bool {
        let memory = &self.memory;
        memory.untargeted.iter().any(|(link, at)| {
            let link = program.links.get(*link as usize);
            match link.and_then(|link| link.controls.get(*at as usize)) {
                Some(Control::RemoveTarget(rules, pick)) => {
                    rules.contains(&rule) && is_picked(program, memory, pick, item)
                }
                _ => false,
            }
        })
    }

    /// What a view shows now.
    fn look(&mut self, program: &Program, view: u32) -> Looked {
        let (Some(known), Some(shown)) =
            (self.memory.looked.get(view as usize), program.views.get(view as usize))
        else {
            return Looked::default();
        };
        if known.generation == self.memory.generation {
            return *known;
        }
        let Some(selection) = program.selections.get(shown.selection as usize) else {
            return Looked::default();
        };
        if shown.plain != NONE && !selection.changes {
            // Where no value has a byte that a transformation minds, all are as they came.
            let plain = self.look(program, shown.plain);
            if !may_change(program, shown.chain, &plain.presence) {
                if let Some(known) = self.memory.looked.get_mut(view as usize) {
                    *known = plain;
                }
                return plain;
            }
            return self.look_through(program, view, shown.chain, plain);
        }
        let first = number(self.memory.items.len());
        for pick in &selection.picks {
            self.select(program, pick, &selection.excepts);
        }
        let mut looked = Looked {
            generation: self.memory.generation,
            first,
            end: number(self.memory.items.len()),
            ..Looked::default()
        };
        for at in looked.first..looked.end {
            let Some(raw) = self.memory.items.get(at as usize).map(|item| item.raw) else { break };
            let cell = self.memory.through(program, raw, shown.chain);
            if let Some(item) = self.memory.items.get_mut(at as usize) {
                item.cell = cell;
            }
            looked.presence = looked.presence.or(&self.memory.presence(cell));
            looked.longest =
                looked.longest.max(self.memory.cells.get(cell as usize).map_or(0, |cell| cell.len));
        }
        if !selection.changes
            && let Some(known) = self.memory.looked.get_mut(view as usize)
        {
            *known = looked;
        }
        looked
    }

    /// The items of another view through a chain.
    fn look_through(&mut self, program: &Program, view: u32, chain: u32, plain: Looked) -> Looked {
        let first = number(self.memory.items.len());
        let mut looked = Looked { generation: plain.generation, first, end: first, ..Looked::default() };
        for at in plain.first..plain.end {
            let Some(item) = self.memory.items.get(at as usize).copied() else { break };
            let cell = self.memory.through(program, item.raw, chain);
            looked.presence = looked.presence.or(&self.memory.presence(cell));
            looked.longest =
                looked.longest.max(self.memory.cells.get(cell as usize).map_or(0, |cell| cell.len));
            self.memory.items.push(Item { cell, ..item });
        }
        looked.end = number(self.memory.items.len());
        if let Some(known) = self.memory.looked.get_mut(view as usize) {
            *known = looked;
        }
        looked
    }

    /// Puts what a pick takes behind the other items.
    fn select(&mut self, program: &Program, pick: &Pick, excepts: &[Pick]) {
        let from = self.memory.items.len();
        self.take(program, pick);
        if !excepts.is_empty() {
            let mut kept = from;
            for at in from..self.memory.items.len() {
                let Some(item) = self.memory.items.get(at).copied() else { break };
                let is_out = excepts.iter().any(|except| is_picked(program, &self.memory, except, &item));
                if !is_out {
                    self.memory.items[kept] = item;
                    kept += 1;
                }
            }
            self.memory.items.truncate(kept);
        }
        if pick.count {
            let count = (self.memory.items.len() - from) as u64;
            self.memory.items.truncate(from);
            let mut digits = [0; 20];
            let cell = self.memory.add(decimal(count, &mut digits));
            let name = match &pick.key {
                Key::Name(name) => self.memory.keep(name),
                _ => Span::default(),
            };
            self.memory.items.push(Item { collection: pick.collection, name, raw: cell, cell });
        }
    }

    fn take(&mut self, program: &Program, pick: &Pick) {
        let memory = &mut *self.memory;
        let collection = pick.collection;
        let item = |name, cell| Item { collection, name, raw: cell, cell };
        match collection {
            Collection::MatchedVar | Collection::MatchedVars => {
                let last =
                    (collection == Collection::MatchedVar).then(|| memory.matched.len().saturating_sub(1));
                for at in last.unwrap_or(0)..memory.matched.len() {
                    let Some(matched) = memory.matched.get(at).copied() else { break };
                    memory.items.push(Item { raw: matched.cell, ..matched });
                }
            }
            Collection::MatchedVarName | Collection::MatchedVarsNames => {
                let last = (collection == Collection::MatchedVarName)
                    .then(|| memory.matched.len().saturating_sub(1));
                for at in last.unwrap_or(0)..memory.matched.len() {
                    let Some(matched) = memory.matched.get(at).copied() else { break };
                    let cell = name_of(memory, &matched);
                    memory.items.push(item(matched.name, cell));
                }
            }
            Collection::HighestSeverity => {
                let mut digits = [0; 20];
                let cell = memory.add(decimal(u64::from(self.highest_severity), &mut digits));
                memory.items.push(item(Span::default(), cell));
            }
            _ if is_kept(collection) && matches!(pick.key, Key::Slot(_)) => {
                let Key::Slot(slot) = pick.key else { return };
                let kept = memory.slots.get(slot as usize).copied().unwrap_or_default();
                if kept != Kept::Unset {
                    let name = program.slots.get(slot as usize).map_or(&[][..], |(_, name)| name);
                    let name = memory.keep(name);
                    let cell = cell_of(memory, kept);
                    memory.items.push(item(name, cell));
                }
            }
            _ if is_kept(collection) => {
                let chosen = match pick.key {
                    Key::Matching(at) => program.members.get(at as usize).and_then(Option::as_deref),
                    _ => None,
                };
                let all = 0..number(program.slots.len());
                let chosen_len = chosen.map_or(all.len(), <[u32]>::len);
                for at in 0..chosen_len {
                    let slot = chosen.map_or(number(at), |chosen| chosen[at]);
                    let Some((of, name)) = program.slots.get(slot as usize) else { break };
                    let kept = memory.slots.get(slot as usize).copied().unwrap_or_default();
                    if kept != Kept::Unset
                        && *of == collection
                        && (chosen.is_some() || takes(program, &pick.key, name))
                    {
                        let name = memory.keep(name);
                        let cell = cell_of(memory, kept);
                        memory.items.push(item(name, cell));
                    }
                }
                for at in 0..memory.others.len() {
                    let Some((of, name, kept)) = memory.others.get(at).copied() else { break };
                    if of == collection && kept != Kept::Unset && takes(program, &pick.key, memory.span(name))
                    {
                        let cell = cell_of(memory, kept);
                        memory.items.push(item(name, cell));
                    }
                }
            }
            _ => {
                if memory.list(collection).is_empty() && has_one(collection) {
                    let cell = memory.add(b"");
                    memory.items.push(item(Span::default(), cell));
                }
                for at in 0..memory.list(collection).len() {
                    let Some(entry) = memory.list(collection).get(at).copied() else { break };
                    if pick.key == Key::All || takes(program, &pick.key, memory.span(entry.name)) {
                        memory.items.push(item(entry.name, entry.cell));
                    }
                }
            }
        }
    }

    /// Asks a value.
    fn asks(&mut self, program: &Program, caches: &Caches, link: &Link, item: &Item) -> bool {
        let mut argument = std::mem::take(&mut self.memory.text);
        argument.clear();
        let answer = self.asks_with(program, caches, link, item, &mut argument);
        self.memory.text = argument;
        answer
    }

    fn asks_with(
        &mut self,
        program: &Program,
        caches: &Caches,
        link: &Link,
        item: &Item,
        argument: &mut Vec<u8>,
    ) -> bool {
        let mixed = link.operator.argument().filter(|template| {
            !matches!(program.templates.get(*template as usize), Some(Template::Constant(_)))
        });
        if let Some(template) = mixed {
            self.expand(program, template, argument);
        }
        let memory = &mut *self.memory;
        let presence = match link.operator {
            Operator::ByteRange(_) => memory.presence(item.cell),
            _ => Presence::default(),
        };
        let value = memory.cell(item.cell);
        if mixed.is_some() {
            return compares_with(link.operator, value, argument);
        }
        if !link.capture {
            return answers(program, Some(caches), link.operator, value, &presence);
        }
        let start = memory.cells.get(item.cell as usize).map_or(0, |cell| cell.start);
        let within = |found: std::ops::Range<usize>| Span {
            start: start + number(found.start),
            len: number(found.len()),
        };
        match link.operator {
            Operator::Sqli => match crate::sqli::detect(value) {
                Some(fingerprint) => {
                    self.capture(0, fingerprint.as_str().as_bytes());
                    true
                }
                None => false,
            },
            Operator::Phrases(at) => {
                match program.phrases.get(at as usize).and_then(|phrases| phrases.find(value)) {
                    Some(found) => {
                        self.capture_span(0, within(found));
                        true
                    }
                    None => false,
                }
            }
            Operator::Expression(at) => {
                let Some(expression) = program.expressions.get(at as usize) else { return false };
                let mut groups = [const { None }; GROUPS_MAX];
                if !caches.of(at, expression).groups(value, &mut groups) {
                    return false;
                }
                for (at, found) in groups.into_iter().enumerate() {
                    if let Some(found) = found {
                        self.capture_span(at, within(found));
                    }
                }
                true
            }
            other => answers(program, Some(caches), other, value, &presence),
        }
    }

    fn capture(&mut self, at: usize, text: &[u8]) {
        let span = self.memory.keep(text);
        self.capture_span(at, span);
    }

    fn capture_span(&mut self, at: usize, span: Span) {
        if let Some(slot) = self.capture_slots.get(at).copied().flatten() {
            let cell = self.memory.cell_of(span);
            self.memory.slots[slot as usize] = Kept::Cell(cell);
        }
    }

    /// A link holds for a value: what is done then, whatever the other links say.
    fn found(&mut self, program: &Program, rule: &Rule, place: u32, number: u32, link: &Link, item: Item) {
        if item.raw != NONE {
            self.memory.matched.push(item);
        }
        for set in &link.sets {
            self.set(program, set.name, set.change);
        }
        for (at, control) in link.controls.iter().enumerate() {
            self.control(number, at, control);
        }
        if rule.log && self.memory.hits.len() < HITS_MAX {
            let mut data = Span::default();
            if let Some(template) = link.log_data {
                let mut text = std::mem::take(&mut self.memory.text);
                text.clear();
                self.expand(program, template, &mut text);
                data = self.memory.keep(&text);
                self.memory.text = text;
            }
            self.memory.hits.push(Hit { rule: place, link: number - rule.links.start, item, data });
        }
    }

    fn control(&mut self, link: u32, at: usize, control: &Control) {
        match control {
            Control::RemoveRules(rules) => {
                for rule in rules {
                    if let Some(bits) = self.memory.removed.get_mut(*rule as usize / 64) {
                        *bits |= 1 << (rule % 64);
                    }
                }
            }
            Control::RemoveTarget(rules, _) => {
                for rule in rules {
                    if let Some(bits) = self.memory.has_untargeted.get_mut(*rule as usize / 64) {
                        *bits |= 1 << (rule % 64);
                    }
                }
                let control = (link, number(at));
                if !self.memory.untargeted.contains(&control) {
                    self.memory.untargeted.push(control);
                }
            }
            Control::Processor(processor) => self.processor = Some(*processor),
            Control::ForceBody(is_on) => self.forces_body = *is_on,
            Control::RequestBody(is_on) => self.settings.request_body = *is_on,
            Control::ResponseBody(is_on) => self.settings.response_body = *is_on,
            Control::RequestBodyLimit(bytes) => {
                self.settings.request_body_limit = usize::try_from(*bytes).unwrap_or(usize::MAX);
            }
            Control::ResponseBodyLimit(bytes) => {
                self.settings.response_body_limit = usize::try_from(*bytes).unwrap_or(usize::MAX);
            }
            // A rule may only make the engine milder than the settings are.
            Control::Mode(mode) => match (self.mode, mode) {
                (_, Mode::Off) => self.mode = Mode::Off,
                (Mode::On, Mode::DetectionOnly) => self.mode = Mode::DetectionOnly,
                (Mode::DetectionOnly, Mode::On) if self.settings.mode == Mode::On => self.mode = Mode::On,
                _ => {}
            },
        }
    }

    fn set(&mut self, program: &Program, name: Name, change: Change) {
        let place = match name {
            Name::Slot(slot) => Place::Slot(slot as usize),
            Name::Made(collection, template) => {
                let mut text = std::mem::take(&mut self.memory.text);
                text.clear();
                self.expand(program, template, &mut text);
                text.make_ascii_lowercase();
                let mut slots = program.slots.iter();
                let place = match slots.position(|(of, name)| *of == collection && **name == *text) {
                    Some(slot) => Place::Slot(slot),
                    None => self.other(program, collection, &text),
                };
                self.memory.text = text;
                place
            }
        };
        let was = match place {
            Place::Slot(slot) => self.memory.slots.get(slot).copied(),
            Place::Other(at) => self.memory.others.get(at).map(|(.., kept)| *kept),
        };
        let value = number_of(&self.memory, was.unwrap_or_default());
        let add = |by: i64| Kept::Number(value.saturating_add(by));
        let becomes = match change {
            Change::Unset => Kept::Unset,
            Change::ToNumber(value) => Kept::Number(value),
            Change::AddNumber(by) => add(by),
            Change::Add(template) => add(self.number_of_template(program, template)),
            Change::Subtract(template) => add(self.number_of_template(program, template).saturating_neg()),
            Change::To(template) => match program.templates.get(template as usize) {
                Some(Template::Constant(cell)) => Kept::Cell(*cell),
                _ => {
                    let mut text = std::mem::take(&mut self.memory.text);
                    text.clear();
                    self.expand(program, template, &mut text);
                    let cell = self.memory.add(&text);
                    self.memory.text = text;
                    Kept::Cell(cell)
                }
            },
        };
        match place {
            Place::Slot(slot) => {
                if let Some(kept) = self.memory.slots.get_mut(slot) {
                    *kept = becomes;
                }
            }
            Place::Other(at) => {
                if let Some((.., kept)) = self.memory.others.get_mut(at) {
                    *kept = becomes;
                }
            }
        }
    }

    fn other(&mut self, program: &Program, collection: Collection, name: &[u8]) -> Place {
        let memory = &mut *self.memory;
        let known =
            memory.others.iter().position(|(of, known, _)| *of == collection && memory.span(*known) == name);
        Place::Other(known.unwrap_or_else(|| {
            let name = memory.keep(name);
            memory.others.push((collection, name, Kept::Unset));
            // From now on there are variables that relays were not asked about.
            for relay in &program.watch.relays {
                memory.wake(relay.bit);
            }
            memory.others.len() - 1
        }))
    }

    fn number_of_template(&mut self, program: &Program, template: u32) -> i64 {
        // The score of a rule is a variable by itself.
        if let Some(Template::Mixed(pieces)) = program.templates.get(template as usize)
            && let [Piece::Slot(slot)] = pieces.as_slice()
        {
            let kept = self.memory.slots.get(*slot as usize).copied().unwrap_or_default();
            return number_of(&self.memory, kept);
        }
        let mut text = std::mem::take(&mut self.memory.text);
        text.clear();
        self.expand(program, template, &mut text);
        let number = integer(&text);
        self.memory.text = text;
        number
    }

    /// Writes a text with its variables behind `out`.
    pub(super) fn expand(&mut self, program: &Program, template: u32, out: &mut Vec<u8>) {
        match program.templates.get(template as usize) {
            None => {}
            Some(Template::Constant(cell)) => out.extend_from_slice(self.memory.cell(*cell)),
            Some(Template::Mixed(pieces)) => {
                for piece in pieces {
                    match piece {
                        Piece::Plain(text) => out.extend_from_slice(text),
                        Piece::Slot(slot) => {
                            let kept = self.memory.slots.get(*slot as usize).copied().unwrap_or_default();
                            write(&self.memory, kept, out);
                        }
                        Piece::Value(collection, name) => {
                            self.expand_value(*collection, name.as_deref(), out)
                        }
                    }
                }
            }
        }
    }

    fn expand_value(&mut self, collection: Collection, name: Option<&[u8]>, out: &mut Vec<u8>) {
        let memory = &mut *self.memory;
        let last = memory.matched.last().copied();
        match (collection, last) {
            (Collection::MatchedVar, Some(last)) => out.extend_from_slice(memory.cell(last.cell)),
            (Collection::MatchedVarName, Some(last)) => {
                let cell = name_of(memory, &last);
                out.extend_from_slice(memory.cell(cell));
            }
            _ => {
                let entries = memory.list(collection);
                let found = match name {
                    None => entries.first(),
                    Some(name) => {
                        entries.iter().find(|entry| memory.span(entry.name).eq_ignore_ascii_case(name))
                    }
                };
                if let Some(entry) = found {
                    out.extend_from_slice(memory.cell(entry.cell));
                }
            }
        }
    }
}

/// The first bit that is set, from one place on and before another.
fn next_bit(bits: &[u64], from: usize, end: usize) -> Option<usize> {
    let mut at = from / 64;
    let mut word = bits.get(at)? & (u64::MAX << (from % 64));
    while word == 0 {
        at += 1;
        word = *bits.get(at)?;
    }
    let found = at * 64 + word.trailing_zeros() as usize;
    (found < end).then_some(found)
}

enum Place {
    Slot(usize),
    Other(usize),
}

/// Whether it is one value: it is there in each request, if only as an empty text.
pub(crate) fn has_one(collection: Collection) -> bool {
    !matches!(
        collection,
        Collection::Args
            | Collection::ArgsGet
            | Collection::ArgsGetNames
            | Collection::ArgsNames
            | Collection::ArgsPath
            | Collection::ArgsPost
            | Collection::ArgsPostNames
            | Collection::Files
            | Collection::FilesNames
            | Collection::FilesSizes
            | Collection::FilesTmpContent
            | Collection::FilesTmpNames
            | Collection::Geo
            | Collection::MultipartFilename
            | Collection::MultipartName
            | Collection::MultipartPartHeaders
            | Collection::RequestCookies
            | Collection::RequestCookiesNames
            | Collection::RequestHeaders
            | Collection::RequestHeadersNames
            | Collection::ResponseHeaders
            | Collection::ResponseHeadersNames
            | Collection::Rule
            | Collection::Xml
    )
}

/// Whether a chain can change a value whose bytes are all in `presence`.
fn may_change(program: &Program, chain: u32, presence: &Presence) -> bool {
    if program.asks_in_full() {
        return true;
    }
    let mut at = chain;
    while let Some(step) = program.chains.get(at as usize) {
        let Some(last) = step.last else { return false };
        if last.may_change(presence) {
            return true;
        }
        at = step.before;
    }
    true
}

fn takes(program: &Program, key: &Key, name: &[u8]) -> bool {
    match key {
        Key::All => true,
        Key::Slot(slot) => {
            program.slots.get(*slot as usize).is_some_and(|(_, wanted)| name.eq_ignore_ascii_case(wanted))
        }
        Key::Name(wanted) => name.eq_ignore_ascii_case(wanted),
        Key::Matching(at) => program.expressions.get(*at as usize).is_some_and(|one| one.is_match(name)),
    }
}

fn is_picked(program: &Program, memory: &Memory, pick: &Pick, item: &Item) -> bool {
    pick.collection == item.collection && takes(program, &pick.key, memory.span(item.name))
}

/// The full name of a value, as `MATCHED_VAR_NAME` has it.
fn name_of(memory: &mut Memory, item: &Item) -> u32 {
    let begin = memory.bytes.len();
    memory.bytes.extend_from_slice(item.collection.name().as_bytes());
    if item.name.len > 0 {
        memory.bytes.push(b':');
        let name = item.name.start as usize..item.name.start as usize + item.name.len as usize;
        if name.end <= begin {
            memory.bytes.extend_from_within(name);
        }
    }
    memory.cell_behind(begin)
}

fn cell_of(memory: &mut Memory, kept: Kept) -> u32 {
    let begin = memory.bytes.len();
    match kept {
        Kept::Cell(cell) => return cell,
        Kept::Number(value) => write_number(value, &mut memory.bytes),
        Kept::Unset => {}
    }
    memory.cell_behind(begin)
}

fn write(memory: &Memory, kept: Kept, out: &mut Vec<u8>) {
    match kept {
        Kept::Unset => {}
        Kept::Cell(cell) => out.extend_from_slice(memory.cell(cell)),
        Kept::Number(value) => write_number(value, out),
    }
}

fn write_number(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [0; 20];
    out.extend_from_slice(decimal(value.unsigned_abs(), &mut digits));
}

fn number_of(memory: &Memory, kept: Kept) -> i64 {
    match kept {
        Kept::Unset => 0,
        Kept::Number(value) => value,
        Kept::Cell(cell) => integer(memory.cell(cell)),
    }
}

/// The number that a text begins with; 0 if it begins with none.
pub(crate) fn integer(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits = digits.iter().take_while(|digit| digit.is_ascii_digit());
    let value =
        digits.fold(0_i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if is_negative { -value } else { value }
}
