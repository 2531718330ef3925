"""How a page looks: on a screen as narrow as a phone's, in the dark, on paper."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --card: #f6f8fa;
  --complete: #2a7d4f; --failed: #c9252d; --interrupted: #8a3ffc; --unverified: #a35f00;
  --cancelled: #59636e; --waited: #2f6db5;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #12161b; --ink: #e2e8ee; --soft: #9aa5b1; --line: #333c46; --card: #1b2128;
    --complete: #55c08a; --failed: #ff7b72; --interrupted: #c297ff; --unverified: #e3a54a;
    --cancelled: #9aa5b1; --waited: #78b0f0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: 1.1rem; font-weight: 600; color: var(--soft); margin: 0; }
h2 { font-size: 1.6rem; margin: 1.5rem 0 0; line-height: 1.2; }
h3 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .25rem 0; }
a { color: var(--waited); }
section + section { border-top: 2px solid var(--line); margin-top: 3rem; }
.note { color: var(--soft); font-size: .875rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .6rem; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: .4rem;
  padding: .6rem .8rem; }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-weight: 600; line-height: 1.3; }
.facts dd + dd { font-size: .8rem; font-weight: 400; color: var(--soft); }
.complete { color: var(--complete); }
.failed { color: var(--failed); }
.interrupted { color: var(--interrupted); }
.unverified { color: var(--unverified); }
.cancelled, .skipped { color: var(--cancelled); }
.waited { color: var(--waited); }
svg { display: block; stroke-width: 1.6; fill: none; }
svg rect { fill: currentColor; }
svg text { fill: var(--soft); font-size: 11px; }
.marks { position: absolute; width: 0; height: 0; }
.plot { width: calc(100% - 4.2rem); margin-left: 4.2rem; overflow: visible; }
.plot .y { text-anchor: end; }
.plot .line { stroke: var(--line); stroke-width: 1; }
.plot .zero { stroke: var(--soft); stroke-width: 1; }
.plot .median { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 5 4; }
.plot .slot { fill: transparent; }
.plot g:hover .slot { fill: var(--line); fill-opacity: .5; }
.keys { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; margin: .25rem 0;
  list-style: none; font-size: .875rem; }
.keys li { display: flex; align-items: center; gap: .35rem; }
.keys svg { width: 12px; height: 12px; }
.plot a:focus-visible .slot { fill: var(--line); }
.multiples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr));
  gap: 1rem 1.5rem; }
.multiples h4 { margin: .5rem 0 0; }
.multiples .plot { width: calc(100% - 3.4rem); margin-left: 3.4rem; }
.multiples > div { min-width: 0; }
summary { cursor: pointer; color: var(--soft); font-size: .875rem; }
.cause { min-width: 12rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 400; }
.number { text-align: right; white-space: nowrap; overflow-wrap: normal;
  font-variant-numeric: tabular-nums; }
.name { min-width: 7rem; }
.use { min-width: 7rem; }
.when, .run { white-space: nowrap; overflow-wrap: normal; }
.meter { width: 100%; min-width: 5rem; height: 12px; color: var(--waited); margin-top: .25rem; }
.meter line { stroke: currentColor; stroke-width: 1.5; }
@media (max-width: 40rem) {
  body { padding: .75rem; font-size: 15px; }
  .facts { grid-template-columns: 1fr 1fr; }
  .facts div:last-child:nth-child(odd) { grid-column: span 2; }
  .minor { display: none; }
  table { font-size: .8rem; }
  th, td { padding-right: .4rem; }
  .name, .use { min-width: 5.5rem; }
  .cause { min-width: 7rem; }
  .run ~ .use { min-width: 4rem; }
  .plot { width: calc(100% - 3.4rem); margin-left: 3.4rem; }
}
@page { size: A4; margin: 14mm; }
@media print {
  body { padding: 0; max-width: none; font-size: 10pt; print-color-adjust: exact; }
  section + section { break-before: page; border: 0; margin: 0; }
  h2, h3, h4, .note { break-after: avoid; }
  .plot, tr, .facts div { break-inside: avoid; }
  .facts { grid-template-columns: repeat(5, 1fr); }
  .wide { overflow: visible; }
  nav, summary { display: none; }
  details::details-content { content-visibility: visible; }
}
"""
