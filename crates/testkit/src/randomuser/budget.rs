//! How many users each client address may have within a window of time. Takes the time as an argument.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// The allowance of one client address. Requests above it are refused and cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Users within a window; the API's own is 20,000.
    pub users: usize,
    /// Length of the window, which begins with the address's first request; the API's own is 5 minutes.
    pub window: Duration,
    /// What a refused request gets.
    pub refusal: Refusal,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            users: 20_000,
            window: Duration::from_secs(300),
            refusal: Refusal::TooManyRequests,
        }
    }
}

/// How a request above the budget is refused; never with `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 429, as today.
    TooManyRequests,
    /// 503, as older deployments did.
    Unavailable,
}

/// What each address has had.
#[derive(Debug)]
pub(super) struct Ledger {
    budget: Option<Budget>,
    accounts: HashMap<IpAddr, Account>,
}

#[derive(Debug)]
struct Account {
    since: Instant,
    used: usize,
}

impl Ledger {
    /// Addresses remembered at once. One above it makes all of them begin anew.
    const MOST_ACCOUNTS: usize = 1_024;

    pub(super) fn new(budget: Option<Budget>) -> Self {
        Self {
            budget,
            accounts: HashMap::new(),
        }
    }

    /// Books `users` for this address, or says how to refuse them.
    pub(super) fn book(&mut self, address: IpAddr, users: usize, now: Instant) -> Result<(), Refusal> {
        let Some(budget) = self.budget else { return Ok(()) };
        self.accounts
            .retain(|_, account| now.duration_since(account.since) < budget.window);
        if self.accounts.len() >= Self::MOST_ACCOUNTS && !self.accounts.contains_key(&address) {
            self.accounts.clear();
        }
        let account = self
            .accounts
            .entry(address)
            .or_insert(Account { since: now, used: 0 });
        if account.used + users > budget.users {
            return Err(budget.refusal);
        }
        account.used += users;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

    #[test]
    fn an_address_gets_its_budget_to_the_last_user_and_again_in_the_next_window() {
        let start = Instant::now();
        let mut ledger = Ledger::new(Some(Budget::default()));
        for _ in 0..4 {
            assert_eq!(ledger.book(HERE, 5_000, start), Ok(()));
        }
        assert_eq!(
            ledger.book(HERE, 1, start + Duration::from_secs(299)),
            Err(Refusal::TooManyRequests)
        );
        assert_eq!(ledger.book(THERE, 1, start), Ok(()));
        assert_eq!(ledger.book(HERE, 1, start + Duration::from_secs(300)), Ok(()));
    }

    #[test]
    fn a_refused_request_costs_nothing() {
        let start = Instant::now();
        let mut ledger = Ledger::new(Some(Budget {
            users: 10,
            ..Budget::default()
        }));
        assert!(ledger.book(HERE, 11, start).is_err());
        assert_eq!(ledger.book(HERE, 10, start), Ok(()));
    }

    #[test]
    fn the_accounts_are_bounded() {
        let start = Instant::now();
        let mut ledger = Ledger::new(Some(Budget::default()));
        for host in 0..5_000_u32 {
            assert_eq!(ledger.book(Ipv4Addr::from(host).into(), 1, start), Ok(()));
        }
        assert!(ledger.accounts.len() <= Ledger::MOST_ACCOUNTS);
    }
}
