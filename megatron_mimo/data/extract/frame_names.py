"""What style sheets in every language call the frame of a page."""

from megatron_mimo.data.extract.words import words

FRAME_NAMES = words(
    """
    ad ads advert advertisement advertising adsbygoogle banner breadcrumb breadcrumbs byline consent cookie cookies cta
    disclaimer footer gdpr login masthead menu menubar nav navbar navigation newsletter outbrain pager pagination
    paywall popular popup promo promotion promoted recommend recommendation recommendations recommended related respond
    share sharing sidebar signin signup similar skip social socials sponsor sponsored subscribe subscription taboola
    tagcloud tags toc toolbar trending .about-author .author-bio .author-box .author-card .post-meta .entry-meta
    .back-to-top .read-more .see-also .you-may-like
    """
)
