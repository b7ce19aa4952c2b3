#include "sink/lines.h"

#include <string.h>

#include "util/utf8.h"

/* Decodes one character. Returns its bytes. */
static size_t next_char(const char *text, uint32_t *code_point)
{
    return sur_utf8_next(text, strnlen(text, 4), code_point);
}

static bool ends_sentence(uint32_t c)
{
    static const uint32_t marks[] = {'.',    '!',    '?',    0x2026, 0x203c, 0x2047, 0x2048,
                                     0x2049, 0x0589, 0x061f, 0x06d4, 0x0964, 0x0965, 0x104b,
                                     0x1362, 0x17d4, 0x3002, 0xff01, 0xff0e, 0xff1f, 0xff61};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (c == marks[i]) return true;
    return false;
}

/* Characters that may follow the end of a sentence, before the pause. */
static bool closes_quote(uint32_t c)
{
    return c == ' ' || c == '"' || c == '\'' || c == ')' || c == ']' || c == 0xbb || c == 0x2019 || c == 0x201d ||
           c == 0x300d || c == 0x300f || c == 0xff09;
}

void lines_pause_reset(struct lines_pause *p)
{
    memset(p, 0, sizeof *p);
}

void lines_pause_add(struct lines_pause *p, int64_t step, const char *text)
{
    if (!*text) return;
    p->last_step = step;
    p->any = true;
    while (*text) {
        uint32_t c;
        text += next_char(text, &c);
        if (!closes_quote(c)) p->sentence = ends_sentence(c);
    }
}

int64_t lines_pause_steps(const struct lines_pause *p, int64_t step)
{
    return p->any ? step - p->last_step : -1;
}

bool lines_pause_over(const struct lines_pause *p, int64_t step)
{
    return lines_pause_steps(p, step) >= (p->sentence ? LINES_SENTENCE_STEPS : LINES_PAUSE_STEPS);
}

bool lines_words_add(struct lines_words *w, const char *text)
{
    size_t n = strlen(text);
    if (w->n + n >= sizeof w->held) return false;
    memcpy(w->held + w->n, text, n + 1);
    w->n += n;
    return true;
}

bool lines_words_pop(struct lines_words *w, bool all, char word[LINES_HELD])
{
    if (w->n == 0) return false;
    size_t start = strspn(w->held, " ");
    size_t end = start + strcspn(w->held + start, " ");
    if (end == start || (end == w->n && !all)) return false;
    memcpy(word, w->held, end);
    word[end] = 0;
    w->n -= end;
    memmove(w->held, w->held + end, w->n + 1);
    return true;
}

size_t lines_fit(const char *text, int width, size_t *next)
{
    size_t i = 0, last_blank = 0, take;
    int column = 0;
    for (;;) {
        uint32_t c;
        if (!text[i]) {
            take = i;
            break;
        }
        size_t n = next_char(text + i, &c);
        int columns = sur_utf8_char_width(c);
        if (c == ' ' && i > 0 && text[i - 1] != ' ') last_blank = i;
        if (column + columns > width && i > 0) {
            take = c == ' ' || last_blank == 0 ? i : last_blank;
            break;
        }
        column += columns;
        i += n;
    }
    *next = take + strspn(text + take, " ");
    while (take > 0 && text[take - 1] == ' ') take--;
    return take;
}

size_t lines_cut_word(const char *word, int width, size_t *next)
{
    if (sur_utf8_width(word) <= width) return 0;
    size_t n = lines_fit(word, width, next);
    return word[*next] ? n : 0;
}

size_t lines_wrap(const char *text, int width, int max, struct lines_row *rows, int *n)
{
    size_t i = strspn(text, " ");
    *n = 0;
    while (text[i] && *n < max) {
        size_t next;
        rows[*n].start = i;
        rows[*n].n = lines_fit(text + i, width, &next);
        (*n)++;
        i += next;
    }
    return i;
}
