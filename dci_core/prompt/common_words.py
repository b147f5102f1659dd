"""Words that prompts are full of, which no placeholder may be: it would be read wherever they stand."""

from __future__ import annotations

from .auxiliary_noun import COMMON_NOUNS
from .phrase import PHRASE_ENDS
from .plurals import plural_of

_MORE = """
    i me you he she it we us they them him mine yours theirs himself itself one two three four five six seven eight
    nine ten many few much more most less least all both several other same such only own very too also just even
    still again once here there now today how what why yes s t d m re ll ve go goes going gone get gets got make makes
    made take takes took see sees seen look looks looking show shows shown sit sits sitting stand stands standing lie
    lying run runs running walk walks walking sleep sleeping asleep eat eats eating play playing hold holds holding
    wear wears wearing ride riding fly flying swim swimming painted drawn carved covered filled
    photo photos photograph photography picture pictures image images painting paintings drawing drawings sketch
    illustration render rendering portrait landscape poster art artwork style view scene background foreground close
    closeup shot light lights lighting shadow color colors colour colours quality detail details detailed realistic
    high low best masterpiece 4k 8k hd
    red green blue yellow orange purple pink brown black white gray grey golden gold silver dark bright big small large
    little tiny huge tall short long old new young beautiful cute pretty good bad happy sad hot cold wet dry soft hard
    front back side top bottom left right middle center day night morning evening summer winter sky sun moon star stars
    cloud rain snow water sea ocean lake river beach island mountain forest wood wooden grass field garden park street
    road city town building room floor wall window door bed sofa kitchen desk box paper metal glass stone gold ice fire
    man men woman women boy boys girl girls child children kid kids baby people person face head hair eye eyes hand
    hands body animal toy thing things food world time place way
"""
COMMON_WORDS = frozenset([*PHRASE_ENDS, *COMMON_NOUNS, *map(plural_of, COMMON_NOUNS), *_MORE.split()])
"""In small letters; names and words of no meaning, such as "sks", are none of them."""
