//! Several judges, one finding (contract, section 2). Pure.

use aegis_core::{Consensus, Score};

use super::Finding;

/// One judge's opinion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Opinion {
    pub(crate) weight: f64,
    pub(crate) finding: Finding,
}

/// What the judges say together. `pass` is the score from which a judge counts as in favour.
pub(crate) fn agree(consensus: Consensus, opinions: &[Opinion], pass: Score) -> Finding {
    let weight: f64 = opinions.iter().map(|opinion| opinion.weight).sum();
    if opinions.is_empty() || weight <= 0.0 {
        return Finding::binary(false, "no judge gave an opinion");
    }
    let mean = |of: fn(&Finding) -> Score| {
        opinions.iter().map(|opinion| opinion.weight * of(&opinion.finding).as_f64()).sum::<f64>() / weight
    };
    let (score, self_confidence) = (mean(|finding| finding.score), mean(|finding| finding.confidence));
    #[expect(clippy::cast_precision_loss, reason = "a handful of judges")]
    let count = opinions.len() as f64;
    let plain_mean = opinions.iter().map(|opinion| opinion.finding.score.as_f64()).sum::<f64>() / count;
    let variance =
        opinions.iter().map(|opinion| (opinion.finding.score.as_f64() - plain_mean).powi(2)).sum::<f64>()
            / count;
    // Population variance of scores in 0–1 is at most 0.25.
    let agreement = 1.0 - (variance / 0.25).min(1.0);
    let confidence = Score::from_f64(0.7 * agreement + 0.3 * self_confidence);
    let in_favour = |opinion: &&Opinion| opinion.finding.score >= pass;
    let score = match consensus {
        Consensus::WeightedAverage => Score::from_f64(score),
        Consensus::Majority => {
            let favour: f64 = opinions.iter().filter(in_favour).map(|opinion| opinion.weight).sum();
            if favour * 2.0 > weight { Score::ONE } else { Score::ZERO }
        }
        Consensus::Unanimous => {
            opinions.iter().map(|opinion| opinion.finding.score).min().unwrap_or(Score::ZERO)
        }
        Consensus::BestOfN => {
            opinions.iter().map(|opinion| opinion.finding.score).max().unwrap_or(Score::ZERO)
        }
    };
    let reasoning = opinions
        .iter()
        .zip(1..)
        .map(|(opinion, number)| {
            format!("judge {number} ({}): {}", opinion.finding.score, opinion.finding.reasoning)
        })
        .collect::<Vec<_>>()
        .join("; ");
    Finding { score, confidence, reasoning, self_attested: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opinions(of: &[(f64, f64, f64)]) -> Vec<Opinion> {
        let finding = |score, confidence| Finding {
            score: Score::from_f64(score),
            confidence: Score::from_f64(confidence),
            reasoning: String::new(),
            self_attested: false,
        };
        of.iter()
            .map(|(weight, score, confidence)| Opinion {
                weight: *weight,
                finding: finding(*score, *confidence),
            })
            .collect()
    }

    #[test]
    fn each_consensus_follows_the_contract() {
        let pass = Score::from_f64(0.7);
        let mixed = opinions(&[(1.0, 1.0, 1.0), (1.0, 0.5, 0.5), (2.0, 0.8, 0.9)]);
        for (consensus, expected) in [
            (Consensus::WeightedAverage, 0.775),
            (Consensus::Majority, 1.0),
            (Consensus::Unanimous, 0.5),
            (Consensus::BestOfN, 1.0),
        ] {
            let score = agree(consensus, &mixed, pass).score.as_f64();
            assert!((score - expected).abs() < 1e-6, "{consensus:?}: {score}");
        }
    }

    #[test]
    fn confidence_falls_with_disagreement() {
        let split =
            agree(Consensus::WeightedAverage, &opinions(&[(1.0, 0.0, 1.0), (1.0, 1.0, 1.0)]), Score::ONE);
        assert!((split.confidence.as_f64() - 0.3).abs() < 1e-6);
        let united =
            agree(Consensus::WeightedAverage, &opinions(&[(1.0, 0.8, 1.0), (1.0, 0.8, 1.0)]), Score::ONE);
        assert!((united.confidence.as_f64() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn half_is_no_majority_and_nobody_is_no_consensus() {
        let half =
            agree(Consensus::Majority, &opinions(&[(1.0, 1.0, 1.0), (1.0, 0.0, 1.0)]), Score::from_f64(0.7));
        assert_eq!(half.score, Score::ZERO);
        assert_eq!(agree(Consensus::BestOfN, &[], Score::ZERO).score, Score::ZERO);
    }
}
