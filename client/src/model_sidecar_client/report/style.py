"""The page's looks. The plots' part stands by itself, for pages that have looks of their own."""

from __future__ import annotations

PAGE = """
:root { color-scheme: light dark; --ink: #1c2127; --paper: #f7f8f9; --card: #fff; --line: #d9dde2; --quiet: #5d6771;
  --good: #12703f; --good-bg: #dff3e7; --bad: #a3180f; --bad-bg: #fde5e2; --busy: #79520a; --busy-bg: #fbefcf; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e6ea; --paper: #14171a; --card: #1c2024; --line: #343b42;
  --quiet: #9aa5b0; --good: #7fd7a6; --good-bg: #173526; --bad: #ff9c92; --bad-bg: #45201d; --busy: #f0c869;
  --busy-bg: #3d3215; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  padding: 1.5rem 1rem; max-width: 76rem; }
h1 { font-size: 1.35rem; margin: 0; } h2 { font-size: 1.2rem; margin: 0; }
h2.version { margin-top: 1.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { margin: .4rem 0; }
.quiet, th { color: var(--quiet); font-weight: normal; }
.badge { display: inline-block; font-size: .8rem; font-weight: 600; line-height: 1.5; padding: 0 .55em;
  border-radius: .75em; white-space: nowrap; vertical-align: middle; }
.good { color: var(--good); background: var(--good-bg); }
.bad { color: var(--bad); background: var(--bad-bg); }
.busy { color: var(--busy); background: var(--busy-bg); }
.plain { color: var(--quiet); background: var(--line); }
.notice { padding: .5rem .75rem; border-radius: .4rem; overflow-wrap: anywhere; font-weight: 600; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.25rem;
  margin: 1.25rem 0; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: middle; padding: .25rem 1.25rem .25rem 0; border-top: 1px solid var(--line); }
thead th { border-top: 0; white-space: nowrap; font-size: .8rem; }
tbody th { color: var(--ink); }
"""

PLOTS = """
:root { --now: #2563c9; --then: #c9d1da; --alarm: #d0342c; --mark: #1c2127; }
@media (prefers-color-scheme: dark) { :root { --now: #6ea3f7; --then: #46505b; --alarm: #ff7a6e; --mark: #e3e6ea; } }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .3rem; }
.summary { font-size: 1.02rem; max-width: 60rem; }
sup { line-height: 0; } details { margin: .8rem 0; } details summary { cursor: pointer; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr)); gap: .75rem; margin: .8rem 0; }
.card { margin: 0; border: 1px solid var(--line); border-radius: .45rem; padding: .5rem .7rem .35rem; }
.card.alarm { border-color: var(--alarm); }
.card figcaption { font-size: .85rem; margin-bottom: .35rem; overflow-wrap: anywhere; }
svg.plot { display: block; width: 100%; height: auto; }
svg.bar { width: 11rem; height: .7rem; vertical-align: middle; }
svg.span { width: 15rem; height: 1.4rem; vertical-align: middle; display: block; }
svg text { fill: var(--quiet); font: 10px system-ui, sans-serif; }
svg .then, .key.then { fill: var(--then); background: var(--then); }
svg .now, .key.now { fill: var(--now); background: var(--now); }
svg .now.alarm, .key.now.alarm { fill: var(--alarm); background: var(--alarm); }
svg .faint { fill-opacity: .35; }
svg .hollow { fill: var(--card); stroke: var(--now); stroke-width: 2; }
svg .rail { fill: var(--line); }
svg .axis { stroke: var(--line); stroke-width: 1; }
svg .threshold { stroke: var(--mark); stroke-width: 2; }
svg .feel { fill: transparent; }
.key { display: inline-block; width: .75em; height: .75em; border-radius: .15em; margin: 0 .15em 0 .8em; }
.legend .key:first-child { margin-left: 0; }
"""
