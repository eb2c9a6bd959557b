/* Chinese (simplified): no inflection; a measure word by noun between number and phrase. */
#include "data/synth_grammar.h"

static const struct {
    const char *measure, *word;
} NOUN[FZ_N_SHAPES] = {
    [FZ_CIRCLE] = {"个", "圆形"},     [FZ_SQUARE] = {"个", "正方形"},
    [FZ_TRIANGLE] = {"个", "三角形"}, [FZ_STAR] = {"颗", "五角星"},
    [FZ_CROSS] = {"个", "十字"},      [FZ_HEART] = {"颗", "爱心"},
    [FZ_RING] = {"个", "圆环"},       [FZ_DIAMOND] = {"个", "菱形"},
    [FZ_ARROW] = {"支", "箭头"},      [FZ_CRESCENT] = {"弯", "月牙"},
};
static const char *const COLOUR[FZ_N_COLOURS] = {
    [FZ_RED] = "红色",   [FZ_BLUE] = "蓝色",  [FZ_GREEN] = "绿色",  [FZ_YELLOW] = "黄色",
    [FZ_BLACK] = "黑色", [FZ_WHITE] = "白色", [FZ_ORANGE] = "橙色", [FZ_PURPLE] = "紫色",
    [FZ_BROWN] = "棕色", [FZ_GREY] = "灰色",  [FZ_PINK] = "粉色",
};
static const char *const SIZE[FZ_N_OBJECT_SIZES] = {"小", "大"};
static const char *const NUMBER[] = {"", "一", "两", "三", "四"};

static void colour(fz_text *text, int which, fz_form form)
{
    (void)form;
    fz_text_add(text, COLOUR[which]);
}

/* A known single thing is named without number and measure word. */
static void noun_phrase(fz_text *text, const fz_entity *entity, bool with_size, fz_form form)
{
    if (form.article != FZ_DEFINITE || entity->count > 1) {
        fz_text_add(text, NUMBER[entity->count]);
        fz_text_add(text, NOUN[entity->shape].measure);
    }
    fz_text_add(text, COLOUR[entity->colour]);
    fz_text_add(text, "的");
    if (with_size) fz_text_add(text, SIZE[entity->size]);
    fz_text_add(text, NOUN[entity->shape].word);
}

const fz_language fz_language_zh = {
    .code = "zh",
    .name = "simplified Chinese",
    .pattern =
        {
            [FZ_SCENE_ONE] = {"图片展示了{bg}的{a}。", "有{a}{pos}。", "{bg}可以看到{a}。",
                              "{bg}，{a}{pos}。", "一张{bg}有{a}的图片。"},
            [FZ_SCENE_PAIR] = {"图片展示了{bg}的{a}和{b}。", "这里可以看到{a}和{b}。",
                               "{bg}有{a}和{b}。"},
            [FZ_SCENE_RELATED] = {"{a}在{b}的{rel}。", "图片中，{bg}有{a}，位于{b}的{rel}。",
                                  "{b}的{rel}有{a}。", "{a.def}位于{b.def}的{rel}。"},
            [FZ_SCENE_BETWEEN] = {"{a}在{b}和{c}之间。", "图片中，{bg}有{a}，位于{b}和{c}之间。",
                                  "{b.def}和{c.def}之间有{a}。"},
            [FZ_SCENE_TRIPLE] = {"图片展示了{a}、{b}和{c}。", "{bg}可以看到{a}、{b}和{c}。",
                                 "{bg}有{a}、{b}和{c}。"},
        },
    .relation = {[FZ_LEFT_OF] = "左边",
                 [FZ_RIGHT_OF] = "右边",
                 [FZ_ABOVE] = "上方",
                 [FZ_BELOW] = "下方",
                 [FZ_NEXT_TO] = "旁边"},
    .position = {[FZ_TOP_LEFT] = "位于左上角",
                 [FZ_TOP] = "位于上边缘",
                 [FZ_TOP_RIGHT] = "位于右上角",
                 [FZ_LEFT] = "位于左边缘",
                 [FZ_CENTRE] = "位于中央",
                 [FZ_RIGHT] = "位于右边缘",
                 [FZ_BOTTOM_LEFT] = "位于左下角",
                 [FZ_BOTTOM] = "位于下边缘",
                 [FZ_BOTTOM_RIGHT] = "位于右下角",
                 [FZ_ROW] = "排成一行",
                 [FZ_COLUMN] = "排成一列"},
    .background = {[FZ_PLAIN] = "{k}背景上",
                   [FZ_GRADIENT] = "{k}渐变背景上",
                   [FZ_STRIPES] = "{k}条纹背景上",
                   [FZ_CHECKS] = "{k}格子背景上",
                   [FZ_NOISE] = "{k}噪点背景上"},
    .noun_phrase = noun_phrase,
    .colour = colour,
};
