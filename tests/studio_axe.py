"""axe-core, the accessibility checker, on an open page."""

from __future__ import annotations

from importlib import resources

GRAVE = ("serious", "critical")


def violations(page) -> list[str]:
    """The serious and critical violations in what is visible: rule, element and what axe says, a line each."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text())
    # A colour that is on its way from one to another is neither: let what is changing arrive.
    page.evaluate(
        """() => Promise.allSettled(
            document.getAnimations().filter((each) => each instanceof CSSTransition).map((each) => each.finished))"""
    )
    found = page.evaluate(
        """() => axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations.map(
            (rule) => ({ id: rule.id, impact: rule.impact, help: rule.help, nodes: rule.nodes.map(
                (node) => ({ target: node.target.join(' '), html: node.html, why: node.failureSummary })) })))"""
    )
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']}: {' '.join(node['why'].split())} {node['html'][:300]}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]
