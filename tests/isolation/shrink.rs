//! What is a little less than a script, to find the least that still fails.

use super::script::{Answer, Delivery, Kind, Renewal, Round, Script, Visit};

/// What is a little less than a script: without a round, a visit, a field of a
/// visit, an answer, or something that an answer says.
pub(super) fn smaller(script: &Script) -> Vec<Script> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Script)| {
        let mut less = script.clone();
        change(&mut less);
        all.push(less);
    };
    for r in 0..script.rounds.len() {
        with(&|less| drop(less.rounds.remove(r)));
        let (Round::InTurn(visits) | Round::Together(visits)) = &script.rounds[r] else { continue };
        for (v, visit) in visits.iter().enumerate() {
            with(&|less| drop(visits_of(less, r).remove(v)));
            for s in 0..visit.sends.len() {
                with(&|less| {
                    visits_of(less, r)[v].sends.remove(s);
                });
            }
            if visit.leaves.is_some() {
                with(&|less| visits_of(less, r)[v].leaves = None);
            }
            if !visit.query.is_empty() {
                with(&|less| visits_of(less, r)[v].query = "");
            }
            if visit.method != "GET" {
                with(&|less| visits_of(less, r)[v].method = "GET");
            }
        }
    }
    for p in 0..script.pages.len() {
        if script.pages.len() > 1 && !visits(script).any(|visit| visit.page == p) {
            with(&|less| without_page(less, p));
        }
    }
    for (p, page) in script.pages.iter().enumerate() {
        if page.answers.len() > 1 {
            for a in 0..page.answers.len() {
                with(&|less| drop(less.pages[p].answers.remove(a)));
            }
        }
        for (a, answer) in page.answers.iter().enumerate() {
            for less_of_it in simpler(answer) {
                with(&|less| less.pages[p].answers[a] = less_of_it.clone());
            }
        }
    }
    all
}

fn visits(script: &Script) -> impl Iterator<Item = &Visit> {
    script.rounds.iter().flat_map(|round| match round {
        Round::InTurn(visits) | Round::Together(visits) => visits.as_slice(),
        Round::Storm => &[],
    })
}

/// Without a page that nobody asks for.
fn without_page(script: &mut Script, page: usize) {
    script.pages.remove(page);
    let move_up = |visit: &mut Visit| visit.page -= usize::from(visit.page > page);
    for round in &mut script.rounds {
        if let Round::InTurn(visits) | Round::Together(visits) = round {
            visits.iter_mut().for_each(move_up);
        }
    }
    for public in script.pages.iter_mut().filter_map(|page| page.public.as_mut()) {
        public.asks.iter_mut().for_each(move_up);
    }
}

fn visits_of(script: &mut Script, round: usize) -> &mut Vec<Visit> {
    match &mut script.rounds[round] {
        Round::InTurn(visits) | Round::Together(visits) => visits,
        Round::Storm => unreachable!("a storm has no visits"),
    }
}

/// An answer without something that it says.
fn simpler(answer: &Answer) -> Vec<Answer> {
    let simple = Answer::page(&[]);
    let mut all = vec![
        Answer { hints: false, ..answer.clone() },
        Answer { etag: false, renewal: Renewal::Anew, ..answer.clone() },
        Answer { renewal: Renewal::Anew, ..answer.clone() },
        Answer { sets_cookie: false, ..answer.clone() },
        Answer { age: 0, ..answer.clone() },
        Answer { expires: None, ..answer.clone() },
        Answer { cdn: simple.cdn, ..answer.clone() },
        Answer { delivery: Delivery::Whole, ..answer.clone() },
        Answer { kind: Kind::Asked, ..answer.clone() },
        Answer { status: 200, ..answer.clone() },
    ];
    for n in 0..answer.cache.len() {
        let mut less = answer.clone();
        less.cache.remove(n);
        all.push(less);
    }
    for n in 0..answer.vary.len() {
        let mut less = answer.clone();
        less.vary.remove(n);
        all.push(less);
    }
    all.retain(|less| less != answer);
    all
}
