/* The sentences that prompts are made of, and the words that outputs can be made to begin with.
 * Local.
 *
 * A prompt in the data or on the command line may name its parts by macros, as the public data set
 * does; they are replaced before the text is tokenized:
 *
 *   <LANG_EN> _DE _FR _ES _ZH _RU   "The target language is German." in front, then one space
 *   <CAPTION> <DETAILED_CAPTION> <MORE_DETAILED_CAPTION>, and Florence-2's <OCR>
 *   <OCR_WITH_REGION> <OD> <DENSE_REGION_CAPTION> <REGION_PROPOSAL>
 *                                   a sentence; beside a language nothing else may be in the text
 *   <TRANSLATE>, and Florence-2's <CAPTION_TO_PHRASE_GROUNDING>
 *   <REFERRING_EXPRESSION_SEGMENTATION> <REGION_TO_SEGMENTATION> <OPEN_VOCABULARY_DETECTION>
 *   <REGION_TO_CATEGORY> <REGION_TO_DESCRIPTION> <REGION_TO_OCR>
 *                                   a sentence around the rest of the text, which is kept as it is
 *
 * "<LANG_DE><TRANSLATE>A dog." becomes "The target language is German. Translate the following
 * text: A dog."; a text without macros stays itself.
 */
#ifndef FZ_DATA_PROMPT_H
#define FZ_DATA_PROMPT_H

#include "core/status.h"

/* What out must have beyond the bytes of the text itself, its end included. */
enum { FZ_PROMPT_ROOM = 160 };

/* out: bytes >= strlen(text) + FZ_PROMPT_ROOM, else FZ_ERR_ARG. FZ_ERR_FORMAT: two languages in one
 * text, or something beside a macro that stands alone. */
fz_status fz_prompt_expand(const char *text, char *out, size_t bytes);

/* task: caption, detailed_caption, more_detailed_caption (text NULL) or translation (text is the
 * English source). language: "de" (any of the six), or NULL for no language sentence. Room as above
 * (text NULL counts as ""). FZ_ERR_USAGE names what there is. */
fz_status fz_prompt_build(const char *task, const char *language, const char *text, char *out,
                          size_t bytes);

/* Words that make a model caption in a language it was not taught to caption in: the first words of
 * the output ("Das Bild zeigt"), without specials. NULL: no such language. */
const char *fz_prompt_prefix(const char *language);

#endif
