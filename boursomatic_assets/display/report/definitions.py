"""What each figure of the report means, in plain words with its formula."""

MINUS = "\N{MINUS SIGN}"

# A term to a line, its meaning indented beneath it.
_TERMS = """
Forward return
    Close H sessions later over today's close, less 1; H is the horizon. BUY, HOLD and SELL are its ranges.
95 % interval
    From the Newey-West error of a mean over sessions, and its own distribution for so many sessions of which
    neighbours share H; of Sharpe ratios and the calibration error from drawing blocks of sessions, H long on
    average, again and again. A figure whose interval holds its no-skill value has shown nothing.
p-value
    How often luck alone would give a figure at least as good. Of twenty figures without skill, one is below
    0.05.
Independent periods
    Sessions / H: about how many observations there really are.
Walk-forward
    The same experiment trained again and again, each fold only on labels that had matured before it; all folds
    together are the record of skill.
Accuracy
    Share of rows whose class was predicted; beside it, the share of the most frequent class.
BUY precision, base rate, lift
    Precision: share of the BUY calls that became BUY. Base rate: share of all rows that did. Lift: the first
    over the second.
Matched lift
    Precision over the base rate of rows of the same volatility: base rates of the ten deciles of 20-session
    volatility, weighted as the calls are. 1 is no skill; volatile stocks cross both thresholds more often by
    themselves.
Rank IC at equal volatility, BUY lift within the session
    The same among names of one session to which the model gives a like probability of HOLD, which is all that it
    knows of their volatility: only a direction is left to tell, and the market's own moves are not in it.
Brier score and skill
    Mean over rows of the sum over classes of (probability - outcome)². Skill: 1 - score / score of the training
    set's class shares; below 0 is worse than knowing nothing.
Log loss
    Mean of -log of the probability given to what came.
Expected calibration error
    Mean over bins of equal size of |share that became BUY - mean probability of BUY|.
Threshold τ
    BUY is called from this probability on. Chosen on validation rows only; where no value stands the test, the
    most probable class is called.
Rank IC, ICIR
    Spearman correlation, within a session, of predicted and realised forward returns; its mean over sessions,
    and the mean over its standard deviation. The test allows for H overlapping sessions.
Smallest rank IC that could have been seen
    Two standard errors of the mean rank IC: a smaller one has no t of 2 on so many sessions. The error of a mean
    falls as 1 / √T, so a rank IC of 0.01 needs T (2 error / 0.01)² years, where T years were judged.
Survivors
    Symbols that trade to the panel's end. Those that stopped trading before may have done worse; a panel without
    them cannot show it. Members of a year are counted on its last weekday up to 30 June.
Tranche book
    Each session 1/H of the capital enters the calls at the next close and leaves H sessions later; daily
    returns are marked to market, net of cost (Jegadeesh and Titman, 1993).
Sharpe ratio
    Mean over standard deviation of daily net returns, times √252. Lo (2002) corrects for autocorrelation.
Probabilistic and deflated Sharpe
    Probability that the true ratio is above 0, given length, skew and tails; deflated: above what the best of
    all trials on these prices would show by luck (Bailey and López de Prado, 2012, 2014).
Maximum drawdown
    Deepest fall of wealth from its running peak, the starting capital included; in [-1, 0].
Turnover, exposure, hit rate
    Capital traded a session; capital invested; share of sessions with a gain.
Diebold-Mariano
    Mean difference of two methods' losses, or returns, over its standard error, which allows for overlap.
Superior predictive ability
    Hansen (2005): p-value of the best of several, against luck having picked it.
Gain and SHAP
    Gain: what a feature's splits improved in training. SHAP: what a feature adds to one prediction's score.
    Both say what the model does, not what is true.
"""


def definitions() -> list[tuple[str, str]]:
    """Terms and what they mean, in the order of the report."""
    found: list[tuple[str, str]] = []
    for line in (
        _TERMS.replace(" - ", f" {MINUS} ")
        .replace(" -", f" {MINUS}")
        .replace("[-", f"[{MINUS}")
        .strip()
        .splitlines()
    ):
        if line.startswith("    "):
            term, meaning = found.pop()
            found.append((term, f"{meaning} {line.strip()}".strip()))
        else:
            found.append((line, ""))
    return found
