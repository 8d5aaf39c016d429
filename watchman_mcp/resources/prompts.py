"""Prompts: questions that people ask every day, ready to send."""


def morning_report() -> str:
    """What happened on this machine since yesterday, and what needs attention."""
    return (
        "Give me the morning report of this machine. Call overview, then what_changed with since=yesterday, "
        "then doctor if overview names something that cannot be seen. Say first what needs my attention, "
        "then what changed and who did it, then load and disk space in one line. If something could not be "
        "observed, say so instead of calling it fine."
    )


def explain_change(subject: str) -> str:
    """What changed about one thing, when, by whom, and what it may explain."""
    return (
        f"Explain what changed about {subject}. Call what_changed with subject={subject} and since=30d, and "
        f"query_packages with name={subject} if it is a package. Tell when it changed, from what to what, by "
        "which command and who asked for it; keep apart what a log says and what is only inferred from "
        "two looks."
    )


ALL = (morning_report, explain_change)
