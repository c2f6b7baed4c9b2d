#pragma once

namespace zero_shot {

/// Everything the page looks like: nothing is loaded from elsewhere. The experts' colours are those of Okabe and Ito
/// («Color universal design», 2008) and, in every second block, Paul Tol's light ones («Colour schemes», 2021), which
/// people with any kind of colour vision tell apart; each is numbered as well. Printed, the page is light and breaks
/// between cards; bars and chips are borders there, which print without background graphics.
inline constexpr const char* kPageStyle = R"css(
:root{color-scheme:light dark;--bg:#f6f5f1;--card:#fff;--ink:#1d1f24;--soft:#636874;--line:#dedcd4;--fill:#30343c;
--track:#ecebe5;--good:#00795a;--bad:#b84a00;--never:#0a5f96;--neverbg:#e2f0fa;
--e0:#0072b2;--e1:#e69f00;--e2:#009e73;--e3:#cc79a7;--e4:#56b4e9;--e5:#d55e00;--e6:#f0e442;--e7:#8a8a8a;
--f0:#77aadd;--f1:#ee8866;--f2:#eedd88;--f3:#ffaabb;--f4:#99ddff;--f5:#44bb99;--f6:#bbcc33;--f7:#dddddd}
@media(prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1d2026;--ink:#eceae4;--soft:#a0a5b0;--line:#343841;
--fill:#d9d7d0;--track:#2b2f37;--good:#3fcf9e;--bad:#ff9a55;--never:#8ccbf5;--neverbg:#14334a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 18px 60px}
h1{font-size:clamp(1.6rem,4.5vw,2.4rem);line-height:1.15;margin:.2em 0 .4em;letter-spacing:-.02em}
h2{font-size:1.35rem;margin:2.2em 0 .3em;letter-spacing:-.01em}
h3{font-size:1.02rem;margin:0 0 .5em;overflow-wrap:anywhere}
p{margin:.4em 0 .9em;max-width:70ch}.lead{font-size:1.08rem}.soft{color:var(--soft)}small,.small{font-size:.85rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:22px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:12px 14px}
.tile b{display:block;font-size:1.7rem;line-height:1.2;letter-spacing:-.02em}.tile span{color:var(--soft);font-size:.85rem;line-height:1.35;display:block}
.tile b small{font-size:1rem;font-weight:500;color:var(--soft)}
.legend{position:sticky;top:0;z-index:2;background:var(--bg);border-bottom:1px solid var(--line);padding:8px 0;margin:14px 0;
display:flex;flex-wrap:wrap;gap:4px 22px;align-items:center;font-size:.85rem;max-height:32vh;overflow:auto}
.legend>span{display:flex;gap:4px;align-items:center;flex-wrap:wrap}.legend em{font-style:normal;color:var(--soft);margin-right:2px}
button.x,.chip{font:600 .8rem/1 system-ui,"Noto Sans","DejaVu Sans",sans-serif;border:0;border-radius:7px;color:#111;background:var(--x)}
button.x{min-width:28px;height:28px;cursor:pointer}button.x[aria-pressed=true]{outline:3px solid var(--ink);outline-offset:1px}
.hatchbox{width:22px;height:22px;border-radius:6px;border:1px solid var(--line);display:inline-block;background:repeating-linear-gradient(45deg,var(--ink) 0 1.5px,transparent 1.5px 5px)}
.e0{--x:var(--e0)}.e1{--x:var(--e1)}.e2{--x:var(--e2)}.e3{--x:var(--e3)}.e4{--x:var(--e4)}.e5{--x:var(--e5)}.e6{--x:var(--e6)}.e7{--x:var(--e7)}
.f0{--x:var(--f0)}.f1{--x:var(--f1)}.f2{--x:var(--f2)}.f3{--x:var(--f3)}.f4{--x:var(--f4)}.f5{--x:var(--f5)}.f6{--x:var(--f6)}.f7{--x:var(--f7)}
.chip.e0,button.e0{color:#fff}.chip.e2,button.e2,.chip.e5,button.e5{color:#04150f}
.picture,.layer,.box{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:16px;margin:14px 0}
.picture{display:grid;grid-template-columns:150px minmax(250px,1fr) auto;gap:6px 22px;align-items:start}
.picture h3{grid-column:1/-1}.picture img.main{width:150px;height:150px;border-radius:8px;image-rendering:pixelated;display:block}
.tick{color:var(--good)}.cross{color:var(--bad)}
.row{margin:0 0 9px}.row .text{display:flex;justify-content:space-between;gap:10px;font-size:.92rem;line-height:1.3}
.row .text span:first-child{overflow-wrap:anywhere}.row.best .text{font-weight:650}
.row .num{font-variant-numeric:tabular-nums;white-space:nowrap}
.track{height:9px;border-radius:5px;background:var(--track);overflow:hidden;margin-top:3px}
.track i{display:block;height:100%;border-radius:5px;background:var(--fill)}.row.rightone .track i{background:var(--good)}
.badge{font-size:.7rem;font-weight:600;border-radius:20px;padding:1px 7px;margin-left:6px;white-space:nowrap;color:var(--soft);border:1px solid var(--line)}
.badge.never{color:var(--never);background:var(--neverbg);border-color:transparent}
.badge.ok{color:var(--good);border-color:var(--good)}
.maps{display:flex;gap:16px;flex-wrap:wrap}.maps figure{margin:0;width:190px}
figcaption{font-size:.8rem;color:var(--soft);margin-bottom:5px}
.map{position:relative;width:190px;height:190px;border-radius:8px;overflow:hidden}
.map i{position:absolute;inset:0;background:var(--p) 0 0/100% 100%;image-rendering:pixelated;filter:grayscale(1)}
.map svg{position:absolute;inset:0;width:100%;height:100%}
.photos img.main,.photos .map i{image-rendering:auto}.maps.many{grid-column:1/-1;display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr))}
.maps.many figure,.maps.many .map{width:auto}.maps.many .map{height:auto;aspect-ratio:1}.legend.many{position:static;max-height:none}
.c rect{fill:var(--x);fill-opacity:.58;stroke:#fff;stroke-opacity:.35;stroke-width:.12}.c rect.h{fill:url(#hatch);fill-opacity:.6;stroke:none}
.c text{font:600 3px system-ui,"Noto Sans","DejaVu Sans",sans-serif;text-anchor:middle;dominant-baseline:central;fill:#fff;stroke:#000;stroke-width:.5;stroke-opacity:.75;paint-order:stroke}
body[data-only] .c:not(.on){opacity:.09}
.words{display:flex;flex-wrap:wrap;gap:4px;margin-top:8px}
.chip{padding:5px 7px;font-weight:600;display:inline-block}.chip sup{font-size:.8em;font-weight:500;margin-left:4px;vertical-align:baseline}
.chip.d{padding-right:19px;background:repeating-linear-gradient(45deg,rgba(0,0,0,.45) 0 1.5px,transparent 1.5px 5px) right/12px 100% no-repeat,var(--x)}
.stats{display:grid;grid-template-columns:repeat(auto-fit,minmax(215px,1fr));gap:4px 20px;font-size:.9rem;margin:0 0 10px}
.head,.expert{display:grid;grid-template-columns:34px minmax(230px,320px) 1fr;gap:4px 16px;align-items:center}
.expert{padding:9px 0;border-top:1px solid var(--line)}.head{font-size:.8rem;color:var(--soft);padding-bottom:4px}
.mirror{display:grid;grid-template-columns:44px 1fr 1fr 44px;align-items:center;font-size:.8rem;font-variant-numeric:tabular-nums}
.mirror span:first-child{text-align:right;padding-right:6px}.mirror span:last-child{padding-left:6px}
.mirror div{height:20px;background:var(--track)}.mirror div:nth-child(2){border-right:2px solid var(--card);border-radius:4px 0 0 4px;display:flex;justify-content:flex-end;overflow:hidden}
.mirror div:nth-child(3){border-radius:0 4px 4px 0;overflow:hidden}.mirror i{display:block;height:100%;background:var(--x)}
.mirror div:nth-child(3) i{background:repeating-linear-gradient(90deg,var(--x) 0 3px,color-mix(in srgb,var(--x) 60%,var(--card)) 3px 5px)}
.head .left{text-align:right}.takes{font-size:.9rem;margin:0 0 4px}footer{margin-top:2.4em;color:var(--soft);font-size:.85rem}
.seen{max-width:150px}
.took{min-width:0}.took .patches{display:flex;flex-wrap:wrap;gap:3px}.took img{width:30px;height:30px;image-rendering:pixelated;border-radius:4px;display:block}
.took .chip{padding:4px 6px;font-weight:500}.took .words{margin-top:5px;align-items:center}
table{border-collapse:collapse;font-size:.9rem}td{padding:4px 14px 4px 0;vertical-align:top;overflow-wrap:anywhere}td:first-child{color:var(--soft);white-space:nowrap}
details summary{cursor:pointer;font-weight:600}.lines{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:4px 26px;margin-top:10px}
dt{font-weight:650;margin-top:.7em}dd{margin:0;max-width:72ch}
.fold>summary{display:none}
@media screen and (max-width:820px){.picture{grid-template-columns:110px 1fr}.picture img.main{width:110px;height:110px}.maps{grid-column:1/-1;margin-top:6px}
.head{display:none}.expert{grid-template-columns:34px 1fr}.took{grid-column:1/-1}}
@media screen and (max-width:470px){main{padding:16px 10px 40px}.picture{grid-template-columns:1fr;gap:10px}.picture img.main{width:150px;height:150px}
.maps{display:grid;grid-template-columns:1fr 1fr;gap:10px}.maps figure{width:auto}.map{width:auto;height:auto;aspect-ratio:1}.legend{gap:4px 14px}button.x{min-width:25px}
.fold>summary{display:block;padding:12px 14px;margin:14px 0;background:var(--card);border:1px solid var(--line);border-radius:12px}
.fold>summary::before{content:"▸ "}.fold[open]>summary::before{content:"▾ "}}
@media print{.tap{display:none}:root{color-scheme:light;--bg:#fff;--card:#fff;--ink:#1d1f24;--soft:#636874;--line:#dedcd4;--fill:#30343c;--track:#ecebe5;
--good:#00795a;--bad:#b84a00;--never:#0a5f96;--neverbg:#e2f0fa}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{font-size:13px}main{max-width:none;padding:0}.picture,.expert,.tile,.row{break-inside:avoid}h2,h3,.stats,.head{break-after:avoid}
.legend{position:static;max-height:none}.picture{grid-template-columns:90px 1fr auto;gap:4px 14px;padding:8px 10px;margin:8px 0}
.picture img.main{width:90px;height:90px}.seen{max-width:90px}.row{margin:0 0 5px}.maps{gap:10px}.maps figure{width:130px}
.map{width:130px;height:130px}.picture .chip{padding:3px 5px;font-size:.7rem}.head,.expert{grid-template-columns:34px 210px 1fr}
h2{margin-top:1.2em}.tiles{grid-template-columns:repeat(4,1fr)}
.track{background:none;border:1px solid var(--line)}.track i{height:0;background:none;border-top:7px solid var(--fill)}
.row.rightone .track i{background:none;border-color:var(--good)}
.mirror div{background:none;border:1px solid var(--line)}.mirror i,.mirror div:nth-child(3) i{height:0;background:none;border-top:18px solid var(--x)}
.mirror div:nth-child(3) i{border-top-style:double}
.chip,button.x,.chip.e0,button.e0{background:none;border:2px solid var(--x);color:#111}.chip.d{background:none;border-style:dashed}}
)css";

/// A tap on an expert's number shows only what went to it, and on a phone what is long begins folded; the page is whole
/// without.
inline constexpr const char* kPageScript = R"js(
document.querySelectorAll('[data-k]').forEach(b=>b.addEventListener('click',()=>{
const k=b.dataset.k,on=document.body.dataset.only!==k;
if(on)document.body.dataset.only=k;else delete document.body.dataset.only;
document.querySelectorAll('.c').forEach(c=>c.classList.toggle('on',on&&c.classList.contains('k'+k)));
document.querySelectorAll('[data-k]').forEach(x=>x.setAttribute('aria-pressed',on&&x.dataset.k===k));
}));
const fold=open=>document.querySelectorAll('.fold').forEach(d=>d.open=open);
if(matchMedia('(max-width:470px)').matches)fold(false);
addEventListener('beforeprint',()=>fold(true));
)js";

}  // namespace zero_shot
