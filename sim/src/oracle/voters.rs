//! What a change of voters must not make worse.

use std::collections::BTreeMap;

use rekindle_proto::fact::RosterEntry;
use rekindle_proto::id::HostName;

use super::Violation;

/// Voters never become fewer, nobody votes twice, and no domain with too many of them gets more. Judged by hosts, and not
/// by the daemon's own rule.
///
/// # Errors
/// [`Violation::VotersWorse`].
pub fn voters_no_worse(
    before: &[HostName],
    after: &[HostName],
    roster: &BTreeMap<HostName, RosterEntry>,
) -> Result<(), Violation> {
    let worse = |why: String| Err(Violation::VotersWorse { why });
    if after.len() < before.len() {
        return worse(format!("{} voters became {}", before.len(), after.len()));
    }
    if let Some(twice) = after.iter().find(|host| after.iter().filter(|other| other == host).count() > 1) {
        return worse(format!("{twice} votes twice"));
    }
    let domain = |host: &HostName| roster.get(host).and_then(|entry| entry.domain.clone());
    for named in after.iter().filter_map(domain) {
        let of = |voters: &[HostName]| voters.iter().filter(|host| domain(host).as_ref() == Some(&named)).count();
        if after.len() > 1 && 2 * of(after) > after.len() && of(after) > of(before) {
            return worse(format!("{} of {} voters came to be in {named}", of(after), after.len()));
        }
    }
    Ok(())
}
