"""How the demo's HTML page looks: on a desk in rows and columns, on a phone with the grid turned, by day and by night."""

from __future__ import annotations

from collections.abc import Mapping

from palette import DARK, LIGHT, Role


def _variables(colours: Mapping[Role, str]) -> str:
    return "".join(f"--{role}:{colour};" for role, colour in colours.items())


STYLE = (
    f":root{{color-scheme:light dark;{_variables(LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    """
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:40px 28px 56px}
a{color:inherit}
img{display:block;width:100%;height:auto}
h1,h2,p,figure,ul,pre{margin:0}
h1{font-size:clamp(28px,4.4vw,44px);line-height:1.12;letter-spacing:-.02em;font-weight:680}
h2{font-size:17px;font-weight:620;margin-bottom:10px}
.over{color:var(--accent);font-weight:600;font-size:14px;letter-spacing:.04em;margin-bottom:8px}
.facts{color:var(--faint);margin-top:8px;font-variant-numeric:tabular-nums}
.prompt{font-size:clamp(19px,2.4vw,25px);line-height:1.35;margin-top:20px;overflow-wrap:anywhere}
.prompt b{color:var(--accent);font-weight:650}
.note{color:var(--faint);font-size:14px;margin-top:10px}
.sweep{display:grid;grid-template-columns:minmax(0,var(--stack)) minmax(0,var(--wide));gap:0 24px;margin:32px 0}
.grid{display:grid;grid-template-columns:auto minmax(0,1fr) 8px repeat(var(--columns),minmax(0,1fr));gap:6px}
.grid>*{grid-row:var(--r);grid-column:var(--c)}
.grid .hint{grid-column:4/-1;color:var(--faint);font-size:14px;line-height:20px}
.keeps::before{content:"← "}
.lets{text-align:right}
.lets::after{content:" →"}
.head{font-weight:600;text-align:center;line-height:24px;white-space:nowrap}
.side{writing-mode:vertical-rl;transform:rotate(180deg);text-align:center;color:var(--faint);font-size:13px;line-height:1.2}
.grid img,.references img,.masks img{border-radius:6px}
.shot a,.references a{display:block}
i{display:inline-block;width:10px;height:10px;margin-right:7px;border-radius:50%}
i.plain{border-radius:0;border:2px solid var(--ink);transform:rotate(45deg) scale(.85)}
.references{display:flex;flex-direction:column}
.references figcaption{line-height:24px;margin:26px 0 6px;font-weight:600;text-align:center}
.references div{flex:1;display:grid;gap:6px;grid-template-columns:repeat(var(--across),minmax(0,1fr));
grid-template-rows:var(--heights);}
.references a{position:relative}
.references img{position:absolute;inset:0;height:100%;object-fit:cover}
.sweep>.note{grid-column:1/-1}
.cards{display:grid;grid-template-columns:minmax(0,1.12fr) minmax(0,1fr);gap:20px}
.cards>:only-child{grid-column:1/-1}
.cards>:only-child svg{max-width:640px}
.side-by-side{display:flex;flex-direction:column;gap:20px}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:20px 22px}
.side-by-side .card:last-child{flex:1}
.cards+.card,.card+.card{margin-top:20px}
.side-by-side .card+.card{margin-top:0}
svg{display:block;width:100%;height:auto;font-family:system-ui,sans-serif}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;white-space:nowrap;font-weight:400}
thead th{color:var(--faint);font-size:14px;border-bottom:1px solid var(--line)}
tbody th,thead th:first-child{text-align:left;padding-left:0}
.masks{display:flex;flex-wrap:wrap;gap:0 24px}
.masks h2{flex-basis:100%}
.masks .wide{max-width:100%}
.masks .note{flex:1 1 260px}
.masks img{width:auto;max-width:100%}
pre{font:14px/1.5 ui-monospace,monospace;background:var(--ground);border:1px solid var(--line);border-radius:8px;
padding:10px 14px;margin:4px 0 12px;white-space:pre-wrap;overflow-wrap:anywhere}
footer{margin-top:28px;color:var(--faint);font-size:14px}
footer ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:4px 22px}
footer h2{font-size:14px;margin-bottom:4px}
@media (max-width:720px){
main{padding:24px 14px 40px}
.sweep{display:block}
.references figcaption{margin:0 0 6px;text-align:left}
.references div{grid-template:auto/repeat(6,minmax(0,1fr))}
.references img{position:static;aspect-ratio:1}
.grid{margin-top:18px;grid-template-columns:auto repeat(var(--rows),minmax(0,1fr));
grid-template-rows:auto auto auto repeat(var(--columns),auto)}
.grid>*{grid-row:var(--c);grid-column:calc(var(--r) - 1)}
.grid .hint{grid-column:1/-1;text-align:left}
.grid .keeps{margin-top:8px}
.keeps::before,.lets::after{content:""}
.head{align-self:center;text-align:left;font-size:15px;padding-right:4px}
.side{writing-mode:horizontal-tb;transform:none}
.cards{grid-template-columns:minmax(0,1fr)}
.card{padding:16px 14px}
.masks img{max-width:none;height:480px}
}
"""
)
