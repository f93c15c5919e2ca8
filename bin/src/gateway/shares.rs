//! How many of a peer's streams each service may have, so that none takes what another needs. Pure.

/// Shares of `limit` for services that want so many each. All get what they want if that fits; else
/// each gets what it wants or an equal share, whichever is less, and what some leave goes to the others.
pub(super) fn shares(limit: usize, wanted: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; wanted.len()];
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|service| wanted[*service]);
    let mut left = limit;
    for (done, service) in order.iter().enumerate() {
        // With more services than streams, one each is still asked for, and may be refused.
        let equal = (left / (wanted.len() - done)).max(1);
        shares[*service] = wanted[*service].min(equal);
        left = left.saturating_sub(shares[*service]);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_given_and_else_nobody_gets_less_than_an_equal_share() {
        assert_eq!(shares(128, &[]), [0; 0]);
        assert_eq!(shares(128, &[128]), [128]);
        assert_eq!(shares(128, &[64, 64]), [64, 64]);
        assert_eq!(shares(128, &[128, 128]), [64, 64]);
        assert_eq!(shares(128, &[128, 8, 128]), [60, 8, 60]);
        assert_eq!(shares(10, &[10, 10, 10]), [3, 3, 4]);
        assert_eq!(shares(2, &[5, 5, 5]), [1, 1, 1]);
    }

    #[test]
    fn no_share_depends_on_the_greed_of_another_service() {
        for greed in [43, 100, 10_000] {
            let given = shares(128, &[128, greed, 128]);
            assert!(given[0] >= 128 / 3 && given[2] >= 128 / 3, "{greed}: {given:?}");
            assert!(given.iter().sum::<usize>() <= 128);
        }
    }
}
