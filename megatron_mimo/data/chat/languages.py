"""Scripts that a text is written in, and scripts that it asks for by the name of a language.

A translation, or an answer in the language that was asked for, leaves the script of its query rightly.
"""

import re
import unicodedata
from collections import Counter

from megatron_mimo.data.chat.prose import prose

SCRIPTS = {
    "CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana", "HANGUL": "hangul", "CYRILLIC": "cyrillic",
    "ARABIC": "arabic", "LATIN": "latin", "DEVANAGARI": "devanagari", "THAI": "thai", "HEBREW": "hebrew",
    "GREEK": "greek",
}  # fmt: skip
"""First word of a letter's Unicode name -> script."""
LANGUAGES = {
    "han": "chinese mandarin cantonese hanzi kanji japanese chinois chino chinesisch cinese chinês китайск "
    "中文 汉语 漢語 汉字 漢字 国语 國語 普通话 普通話 粤语 粵語 文言 中国語 日语 日文 日語 日本語 중국어 한자 일본어",
    "kana": "japanese hiragana katakana japonais japonés japanisch японск 日语 日文 日語 日本語 仮名 假名 일본어",
    "hangul": "korean hangul hangeul coréen coreano koreanisch корейск 韩语 韩文 韓語 韓文 朝鲜语 韓国語 한국어 한글",
    "cyrillic": "russian ukrainian bulgarian serbian belarusian kazakh mongolian cyrillic russe ruso russisch "
    "русск украинск болгарск сербск 俄语 俄文 俄語 ロシア語 러시아어 乌克兰语",
    "arabic": "arabic persian farsi urdu pashto uyghur arabe árabe arabisch арабск персидск "
    "阿拉伯语 阿拉伯文 波斯语 乌尔都语 العربية عربي فارسی アラビア語 아랍어",
    "devanagari": "hindi sanskrit marathi nepali devanagari 印地语 梵文 梵语 हिन्दी हिंदी संस्कृत मराठी नेपाली 힌디어",
    "thai": "thai 泰语 泰文 ไทย タイ語 태국어",
    "hebrew": "hebrew yiddish 希伯来语 עברית ヘブライ語 히브리어",
    "greek": "greek grec griego griechisch греческ 希腊语 希腊文 ελληνικά ギリシャ語 그리스어",
    "latin": "english french german spanish italian portuguese dutch swedish polish turkish vietnamese indonesian "
    "latin pinyin romaji romanize anglais inglés englisch английск французск немецк испанск итальянск латин "
    "英语 英文 英語 法语 法文 德语 德文 西班牙语 西班牙文 葡萄牙语 意大利语 荷兰语 越南语 印尼语 "
    "土耳其语 拉丁 拼音 罗马字 フランス語 ドイツ語 スペイン語 ローマ字 영어 프랑스어 독일어 스페인어 "
    "الإنجليزية انگلیسی अंग्रेज़ी अंग्रेजी อังกฤษ אנגלית",
}
"""Names of languages, in the languages of the queries, by the script they are written in; stems of inflected ones."""
TRANSLATE = re.compile(
    r"translat|transliterat|traduc|tradui|übersetz|vertaal|перев[её]д|перевод|перевест"
    r"|翻译|翻譯|译成|譯成|译为|翻訳|訳し|번역|ترجم|अनुवाद|แปล|תרגם",
    re.IGNORECASE,
)
"""Asks for another language, whichever."""
FIRST_UNSPACED = "\u0590"
"""Scripts from here on write words together, or with prefixes."""


def _any_of(names: str) -> re.Pattern[str]:
    """Where words stand apart a name begins one: `thai` is not in `methaine`."""
    return re.compile(
        "|".join(rf"(?<![^\W\d_]){name}" if name[0] < FIRST_UNSPACED else name for name in names.split()),
        re.IGNORECASE,
    )


_ASKED = {script: _any_of(names) for script, names in LANGUAGES.items()}


def letters_by_script(text: str) -> Counter[str]:
    """Letters of the prose by script; scripts beyond the common ones count under their Unicode names."""
    return Counter(_script(letter) for letter in prose(text) if letter.isalpha())


def may_answer_in(query: str, script: str) -> bool:
    """Whether the query asks for a translation, or names a language of this script."""
    names = _ASKED.get(script)
    return bool(TRANSLATE.search(query) or (names and names.search(query)))


def _script(letter: str) -> str:
    if letter.isascii():
        return "latin"
    name = unicodedata.name(letter, "unknown").split(" ")[0].split("-")[0]
    return SCRIPTS.get(name, name.lower())
