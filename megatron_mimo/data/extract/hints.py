# ruff: noqa: E501 - markup and patterns read best unbroken
"""What names and phrases say about a part of a page: words in classes and ids, and sentences that only frames use."""

import re
from functools import lru_cache

_PARTS = """nav navbar navigation navi navmenu topnav sidenav subnav mainnav nav[-_ ]?(?:bar|links?|menu|list|wrap) submenu menubar sider right-?rail rail
right-?col(?:umn)? left-?col(?:umn)? sidecol footer site-?header global-?header page-?top top-?bar topbar masthead banner cookies? cookie-?\\w+
consent gdpr ccpa onetrust\\w* cmp shar(?:e|ing|er|es) share-?\\w+ sharedaddy addthis\\w* addtoany\\w* a2a\\w* socials? social-\\w+
follow-?(?:us|me|btn|button) related related-?\\w+ recommend\\w* suggest(?:ed|ions?) more-from read-?next up-?next you-?may\\w* trending
most-?(?:read|popular|viewed) top-stories promos? promo-?\\w+ promotion sponsor\\w* ads?
ad-?(?:slot|box|unit|banner|container|wrapper|block|space|text) ads-?\\w+ adsbygoogle adsense dfp google-?ads? taboola\\w* outbrain\\w*
subscri(?:be|ption|bers?) subscribe-\\w+ sign-?up signup-\\w+ paywall log-?in login-\\w+ sign-?in pop-?up\\w* toolbars? tool-?box toolbox\\w*
paginat\\w+ pagers? page-?(?:nav|numbers?|links) post-?nav\\w* nav-links prev-?next prevnext related-links toc tocify table-of-contents table-contents
tableofcontents on-this-page comment-?form respond reply-?form quick-?reply reply-?(?:link|btn|button)
author-?(?:box|bio|card|info|profile|about|details) about-?(?:the-?)?author byline by-line post-?meta entry-?(?:meta|footer)
article-?(?:meta|info|footer|tags|actions|copyright|bar-\\w+) meta-?info
post-?(?:info|tags|share|stats|actions|footer|author|date|controls?|menu|buttons) tag-?(?:list|cloud|links) tagcloud post-tag entry-tags cat-?links
widgets? widget-\\w+ skip-?(?:link|nav|to)\\w* edit-?(?:link|section|page|this-page) mw-editsection\\w* headerlink navbox\\w* vertical-navbox mbox\\w*
ambox printfooter catlinks mw-cite-backlink viewcode-link sitesub contentsub jump-to-nav mw-(?:indicators|jump-link|navigation|head|panel|portlet|footer) noprint no-print
site-?notice back-?to-?top scroll-?(?:to-)?top scrolltop was-this ratings? votes? vote-?\\w+ voting like-?(?:btn|button|count|box) clap-?\\w+
view-?count post-?views user-?(?:card|info|details|panel|stats|profile|action-time) usercard copyright\\w* disclaimer
lang(?:uage)?-?(?:switch\\w*|select\\w*|picker|links|list|menu) version-?(?:switch\\w*|select\\w*|picker|warning)
search-?(?:box|bar|form|field|wrap\\w*) searchform donat\\w+ call-to-action visually-?hidden sr-only screen-?reader(?:-text|-only)? hidden-print
avatar\\w* gravatar announcement-?bar app-?(?:download|promo|banner) download-app qr-?code recommend-box hide-article-box csdn-\\w+ postdesc
blog_post_info\\w* post_next_prev green_channel article-suspended-panel contentitem-(?:actions|time) richcontent-actions authorinfo pinglun
btn-?(?:group|toolbar) action-?bar js-post-menu postcell-footer d-print-none print-only hatnote contact-?(?:us|form) affiliate\\w* discussion-sidebar
gh-header-actions file-navigation file-header footer-?\\w+ site-?(?:nav|footer|menu)\\w* offcanvas mobile-?(?:nav|menu)\\w* hamburger mega-?menu\\w*
live-?chat chat-widget intercom\\w* ctxtnav metanav altlinks baseline-\\w+ next-prev prevlink nextlink nextprev last-updated lastmod edit-meta
doc-footer docs-footer bookmark\\w* linkback (?:post|user|forum|message|member-?info)-?signature \\w*sidebar\\w* side-bar \\w*bread-?crumb\\w*
\\w*newsletter\\w* \\w*advert(?:s|isement|isements|ising)? \\w*cookie\\w* \\w*navbar\\w* \\w*pagination\\w* signature-block-user
announcement-?(?:bar|banner)"""
"""Words that betray the frame as a part of a class, between hyphens."""
_NAMES = """actions adv badges? bio buttons categor(?:y|ies)-?(?:list|links)? claps? crumbs? cta disclosure drawer dropdown(?:-menu)? feedback\\w* foot ftr hdr
helpful kudos legal lightbox likes? menus? metadata modal next overlay partners? permalink poll popular prev previous profile-?card rate rating
ratings reactions? related-? reward search side stub survey tags? timestamps? toast views hd ft top place info handle digg\\w* navcol menubar
post-?nav loginbar crumb toc\\w* credits? byline kicker author date meta sns bshare bdsharebuttonbox wx ad tagline counter stats score utility
utilities secondary tertiary subnav social tools flash alert-dismissible promo masthead brand branding logo wordmark portlet postcell-footer
breadcrumb language languages locale siteinfo colophon ticker comments-promo credit share-tools nav-?\\w+ \\w+-nav \\w+-navigation \\w+-menu
\\w+-toolbar \\w+-footer \\w+-share \\w+-sharing \\w+-ads? \\w+-sidebar \\w+-subscribe \\w+-newsletter \\w+-signup \\w+-promo \\w+-related \\w+-tags
\\w+-meta \\w+-byline \\w+-pagination \\w+-breadcrumbs? \\w+-cookies? \\w+-consent \\w+-copyright \\w+-policies \\w+-toc hot-\\w+ operating signature"""
"""Words that do so only as a whole class or id."""
_STRONG = re.compile(rf"(?:^|[\s_-])(?:{'|'.join(_PARTS.split())})(?=$|[\s_-]|\d)")
_WEAK = re.compile(rf"(?:^|\s)(?:{'|'.join(_NAMES.split())})(?=\s|$)")
_NOT_BOILERPLATE = re.compile(
    r"(?:^|[\s_-])(?:has|with|no|without|hide|show)[-_](?:side-?bar|nav|toc|footer|header|menu|ads?|banner|toolbar)|sidebar-(?:left|right|layout|page)(?:\s|$)"
    r"|(?:^|\s)(?:nav-?)?(?:tabs?|tab-(?:pane|content|panel))(?:\s|$)|code-toolbar|toolbar-(?:wrapper|code)|highlight|collapsible|overlay-content|modal-body-content"
    r"|(?:^|\s)hljs|code-?block|ltx_|admonition|footnotes?|references|reflist|callout"
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

_PHRASES = re.compile(
    r"""(?ix) ^\W*(?:
    (?:we|this\s(?:web)?site|our\s(?:web)?site|by\s(?:using|continuing))\b.{0,80}\bcookies?\b.* | .*\b(?:accept|manage|reject)\s(?:all\s)?(?:cookies|preferences).*
    | (?:©|\(c\)|copyright|&copy;).{0,160} | .{0,80}\ball\srights\sreserved\b.{0,60} | .{0,12}版权所有.* | 版权声明[:：].* | 本文链接[:：].*
    | (?:powered\sby|built\swith|made\swith|hosted\s(?:by|on|with)|created\susing|theme\s(?:by|based)|generated\s(?:by|with|on)|proudly\spowered)\b.{0,100}
    | (?:share|tweet|pin|like|follow|subscribe|sign\sin|sign\sup|log\sin|log\sout|log\son|register|reply|report|flag|edit|delete|quote|print|email|save|copy|copy\slink|copied!?|improve\sthis\squestion|cite|download|upvote|downvote|bookmark|menu|search|close|share\son\s\w+|expand|collapse|more|read\smore|show\smore|load\smore|view\smore|see\smore|continue\sreading|next|previous|prev|back|home|top|back\sto\stop|skip\sto\s(?:main\s)?content|loading\.*|advertisements?|sponsored|ad|promoted|permalink|embed|give\saward|add\sa\scomment|comments?|leave\sa\s(?:comment|reply)|post\scomment|helpful\??|toc|table\sof\scontents|on\sthis\spage|contents)\W*
    | (?:share|tweet|pin|follow|like)\s(?:this|us|me|on|via|it)\b.{0,80} | (?:subscribe|sign\sup|join)\s(?:to|for|now|today|our|my|free|with)\b.{0,140}
    | (?:related|recommended|popular|trending|similar|latest|recent|more|most\sread|further)\s(?:articles?|posts?|stories|questions?|topics?|reading|news|content|videos?|from\b.{0,40}|links|tags|discussions?|comments?|threads?)\W*
    | you\s(?:may|might)\s(?:also\s)?(?:like|enjoy|be\sinterested).{0,40} | .{0,10}what\sto\sread\snext.* | read\snext\W?.{0,80}| up\snext\W?.{0,80}
    | (?:was|is|did)\sthis\s(?:page|article|answer|post|document|content)?\s*(?:page\s)?.{0,20}\b(?:helpful|useful|help\syou)\b.{0,60}
    | edit\s(?:this\s)?(?:page|on\sgithub|source|on\sgitlab).{0,40} | view\s(?:page\s)?(?:source|on\sgithub|history).{0,40} | (?:suggest\sedits|report\san?\s(?:issue|problem|bug)).{0,40}
    | (?:last\s(?:updated|modified|edited|changed|reviewed)|this\spage\swas\slast|page\slast|updated\son|published\son|posted\son|posted\sby|posted\sin|filed\sunder|written\sby|tagged(?:\swith|\sas)?[:\s]).{0,120}
    | .{0,40}\b\d+\s?(?:min(?:ute)?s?\s(?:read|ago)|hours?\sago|days?\sago|weeks?\sago|months?\sago|years?\sago)\b.{0,40}
    | \d[\d.,]*[km]?\s(?:views?|likes?|shares?|comments?|replies|answers?|votes?|points?|claps?|reactions?|followers?|subscribers?|upvotes?|people\sfound\sthis.*)\W*
    | (?:←|→|«|»|‹|›|<|>|previous|next|prev|older|newer)\W*(?:previous|next|prev|older|newer)?\s?(?:post|page|article|chapter|topic|thread|entry|story|lesson|message|up)s?\W?.{0,80}
    | (?:article\s|post\s)?(?:tags?|categor(?:y|ies)|labels?|topics|keywords)\s?[:：].{0,120} | (?:you\sare\svisitor|best\sviewed\s(?:with|in)|view\srevision|download\sin\sother\sformats)\b.{0,80}
    | .{0,80}\baffiliate\slinks?\b.{0,140} | (?:preceded|followed)\sby\b.{0,60} | report\s(?:as|this|abuse|post|an?)\b.{0,40} | (?:最終更新|最后更新|更新日期|当前位置).{0,40}
    | (?:(?:mon|tue|wed|thu|fri|sat|sun)\w*,?\s)?(?:\d{1,2}(?:st|nd|rd|th)?\s)?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s(?:\d{1,2}(?:st|nd|rd|th)?,?\s)?\d{4}.{0,12}
    | \d{4}[-/.年]\d{1,2}[-/.月]\d{1,2}日?(?:\s\d{1,2}:\d\d(?::\d\d)?)? | -{4,}.{0,20}-{4,}
    | (?:click|tap)\sto\s(?:expand|enlarge|zoom|copy|reveal|show|view)\b.{0,20} | expand\s(?:description|all)\W* | collapse\sall\W*
    | messages\ssorted\sby.{0,60} | more\sinformation\sabout\sthe\b.{0,60}
    | enter\syour\semail.* | your\semail\s(?:address)?.{0,80} | (?:no\sspam|unsubscribe).{0,80} | get\s(?:the|our)\s(?:latest|free|weekly|best)\b.{0,120} | .{0,60}\bnewsletter\b.{0,100}
    | (?:thanks\sfor\s(?:reading|contributing\san\sanswer)|become\sa\s(?:member|patron)|support\s(?:us|me)\son|buy\sme\sa).{0,120}
    | (?:privacy\spolicy|terms\s(?:of\s(?:service|use)|and\sconditions)|cookie\s(?:policy|settings|preferences)|contact\sus|about\sus|sitemap|legal\snotice|do\snot\ssell)\b.{0,120}
    | (?:you\smust|please|you\sneed\sto|you\shave\sto|members\sonly)\b.{0,30}(?:log\sin|login|sign\sin|be\slogged|register|enable\sjavascript|disable).{0,100}
    | (?:javascript|js)\s(?:is\s)?(?:disabled|required|must).{0,160} | (?:all\stimes\sare|board\sindex|who\sis\sonline|users\sbrowsing|quick\slinks|jump\sto|forum\sjump|thread\stools|display\smodes|similar\sthreads)\b.{0,120}
    | (?:点赞|收藏|分享|评论|举报|关注|登录|注册|打赏|赞赏|转载请注明.*|复制|复制代码|展开|阅读全文|相关推荐|相关文章|推荐阅读|猜你喜欢|热门推荐|最新评论|上一篇.*|下一篇.*|扫一扫.*|微信公众号.*|关注公众号.*|阅读(?:数|量)?\W*\d*|返回顶部|目录|文章目录|赞|踩|广告|立即登录.*|发表评论.*|写评论.*|原创|版权|著作权归作者所有.*|编辑于.*|发布于.*|最后修改.*|本站.{0,6}备案.*|.{0,3}ICP备.*|posted\s@.*|更多回答|加载更多|查看全部.*)\W*
    )$"""
)
_MAX_PHRASE_CHARACTERS = 240
_SEPARATORS = re.compile(r"\s[|·•»›]\s")
_SENTENCE = re.compile(r"\w{2,}[.!?。！？](?:\s|$)|[。！？]")
_SECTION_HEADINGS = re.compile(
    r"""(?ix)^\W*(?:(?:related|recommended|popular|trending|similar|latest|recent|more|most\sread|hot\snetwork)\s(?:articles?|posts?|stories|questions?|topics?|news|content|videos?|links|tags|discussions?|comments?|threads?|from\b.{0,40}|in\b.{0,40}|on\b.{0,40}|by\b.{0,40})
    |you\s(?:may|might)\s(?:also\s)?(?:like|enjoy|be\sinterested).{0,40}|read\s(?:next|more|also)|up\snext|what\sto\sread\snext|share\s(?:this|on|article|post).{0,30}|follow\sus.{0,20}|leave\sa\s(?:comment|reply).{0,30}|post\sa\s(?:comment|reply)|your\sanswer|add\sa\scomment
    |about\sthe\sauthor|subscribe.{0,40}|sign\sup.{0,40}|newsletter.{0,40}|categories|archives|tags|blogroll|advertisement|sponsored.{0,20}|stay\s(?:connected|updated|informed).{0,20}|join\s(?:the|our).{0,40}|not\sthe\sanswer\syou.{0,80}|who\sis\sonline|similar\s(?:threads|topics)|suggested\stopics|thread\s(?:tools|information)|quick\s(?:reply|links)
    |相关(?:推荐|文章|阅读|话题).{0,8}|推荐(?:阅读|文章).{0,8}|猜你喜欢|热门(?:文章|推荐).{0,6}|最新(?:文章|评论).{0,6}|更多(?:推荐|精彩|文章).{0,8}|评论.{0,6}|文章目录|目录)\W*$"""
)


@lru_cache(maxsize=20000)
def frame_strength(names: str) -> int:
    """Whether class and id say that an element belongs to the page's frame: 2 surely, 1 if it is short, 0 no."""
    names = _CAMEL.sub("-", names).lower()
    if _NOT_BOILERPLATE.search(names):
        return 0
    return 2 if _STRONG.search(names) else 1 if _WEAK.search(names) else 0


@lru_cache(maxsize=20000)
def is_boilerplate_phrase(text: str) -> bool:
    """Whether a short text of its own is one that only frames use."""
    if len(text) <= _MAX_PHRASE_CHARACTERS and len(_SEPARATORS.findall(text)) >= 2 and not _SENTENCE.search(text):
        return True
    return len(text) <= _MAX_PHRASE_CHARACTERS and bool(_PHRASES.match(text))


def is_boilerplate_heading(text: str) -> bool:
    """Whether a heading opens a section of the frame, such as related articles."""
    return len(text) <= 80 and bool(_SECTION_HEADINGS.match(text))
