/* MinHash signatures of many texts: normalise, cut into tokens, shingle, hash, take minima. One pass, no copies.
   Beside it, what the exact hash of a text is taken of.

   The arithmetic is written down in minhash.py, whose numpy version gives the same bytes; keep the two together. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define EVERY_X86 __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EVERY_X86
#endif
#define INLINE static inline __attribute__((always_inline))

/* Layout of a table entry, as in characters.py. */
#define FOLDED_MASK 0x1FFFFFu
#define ALONE (1u << 25)
#define IGNORED (1u << 27)

#define CHARACTER_BASE 0x9E3779B97F4A7C15ull
#define TOKEN_BASE 0xD6E8FEB86659FD93ull
#define MAX_NGRAM 64
#define MAX_PERMUTATIONS 4096
#define BLOCK 256

typedef struct {
    int kind;
    const void *data;
    Py_ssize_t length;
} Text;

typedef struct {
    const uint32_t *table;
    uint32_t table_length;
    const uint32_t *multipliers, *offsets;
    Py_ssize_t permutations;
    int ngram;
    uint64_t leaving_base; /* TOKEN_BASE ** ngram: weight of the token that leaves the window */
} Scheme;

typedef struct {
    uint64_t ring[MAX_NGRAM]; /* the last `ngram` tokens */
    int next;
    Py_ssize_t tokens;
    uint64_t window; /* polynomial of the tokens in the ring */
    uint32_t shingles[BLOCK];
    int waiting; /* shingles not yet in the signature */
    uint32_t *signature;
} State;

INLINE uint64_t mix(uint64_t h) {
    h ^= h >> 33;
    h *= 0xFF51AFD7ED558CCDull;
    h ^= h >> 33;
    h *= 0xC4CEB9FE1A85EC53ull;
    h ^= h >> 33;
    return h;
}

INLINE uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* signature[j] = min(signature[j], multipliers[j] * shingle + offsets[j]); four shingles a load. */
EVERY_X86
static void take_minima(const uint32_t *restrict shingles, int count, const uint32_t *restrict multipliers,
                        const uint32_t *restrict offsets, uint32_t *restrict signature, Py_ssize_t permutations) {
    int i = 0;
    for (; i + 4 <= count; i += 4) {
        const uint32_t a = shingles[i], b = shingles[i + 1], c = shingles[i + 2], d = shingles[i + 3];
        for (Py_ssize_t j = 0; j < permutations; j++) {
            const uint32_t m = multipliers[j], o = offsets[j];
            const uint32_t ab = smaller(m * a + o, m * b + o), cd = smaller(m * c + o, m * d + o);
            signature[j] = smaller(signature[j], smaller(ab, cd));
        }
    }
    for (; i < count; i++)
        for (Py_ssize_t j = 0; j < permutations; j++)
            signature[j] = smaller(signature[j], multipliers[j] * shingles[i] + offsets[j]);
}

INLINE void empty_block(State *state, const Scheme *scheme) {
    take_minima(state->shingles, state->waiting, scheme->multipliers, scheme->offsets, state->signature,
                scheme->permutations);
    state->waiting = 0;
}

INLINE void add_shingle(State *state, const Scheme *scheme) {
    state->shingles[state->waiting++] = (uint32_t)(mix(state->window) >> 32);
    if (state->waiting == BLOCK) empty_block(state, scheme);
}

INLINE void add_token(State *state, const Scheme *scheme, uint64_t polynomial) {
    const uint64_t token = mix(polynomial);
    state->window = state->window * TOKEN_BASE + token - state->ring[state->next] * scheme->leaving_base;
    state->ring[state->next] = token;
    if (++state->next == scheme->ngram) state->next = 0;
    if (++state->tokens >= scheme->ngram) add_shingle(state, scheme);
}

/* `kind` is a constant at every call, so each width of string gets its own loop. */
INLINE void scan(State *state, const Scheme *scheme, int kind, const void *data, Py_ssize_t length) {
    uint64_t token = 0;
    int inside = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        const uint32_t code = kind == 1   ? ((const uint8_t *)data)[i]
                              : kind == 2 ? ((const uint16_t *)data)[i]
                                          : ((const uint32_t *)data)[i];
        const uint32_t entry = code < scheme->table_length ? scheme->table[code] : 0;
        if (entry & IGNORED) continue;
        const uint64_t folded = entry & FOLDED_MASK;
        if (entry && !(entry & ALONE)) {
            token = (token + folded) * CHARACTER_BASE;
            inside = 1;
            continue;
        }
        if (inside) add_token(state, scheme, token);
        token = 0;
        inside = 0;
        if (entry) add_token(state, scheme, folded * CHARACTER_BASE);
    }
    if (inside) add_token(state, scheme, token);
}

static void sign(const Text *text, const Scheme *scheme, uint32_t *signature) {
    State state = {.signature = signature};
    for (Py_ssize_t j = 0; j < scheme->permutations; j++) signature[j] = UINT32_MAX;
    if (text->kind == 1)
        scan(&state, scheme, 1, text->data, text->length);
    else if (text->kind == 2)
        scan(&state, scheme, 2, text->data, text->length);
    else
        scan(&state, scheme, 4, text->data, text->length);
    /* A text shorter than a shingle is one shingle. */
    if (state.tokens > 0 && state.tokens < scheme->ngram) add_shingle(&state, scheme);
    empty_block(&state, scheme);
}

/* Returns 0 and sets an exception when the buffers and numbers do not fit together. */
static int make_scheme(Scheme *scheme, const Py_buffer *table, const Py_buffer *multipliers, const Py_buffer *offsets,
                       int ngram) {
    if (table->len % 4 || multipliers->len % 4 || table->len / 4 > 0x110000 || (uintptr_t)table->buf % 4 ||
        (uintptr_t)multipliers->buf % 4 || (uintptr_t)offsets->buf % 4) {
        PyErr_SetString(PyExc_ValueError, "table, multipliers and offsets must be aligned uint32 arrays");
        return 0;
    }
    scheme->permutations = multipliers->len / 4;
    if (multipliers->len != offsets->len || scheme->permutations < 1 || scheme->permutations > MAX_PERMUTATIONS) {
        PyErr_SetString(PyExc_ValueError, "multipliers and offsets must have one length, from 1 to 4096");
        return 0;
    }
    if (ngram < 1 || ngram > MAX_NGRAM) {
        PyErr_SetString(PyExc_ValueError, "ngram must be from 1 to 64");
        return 0;
    }
    scheme->table = table->buf;
    scheme->table_length = (uint32_t)(table->len / 4);
    scheme->multipliers = multipliers->buf;
    scheme->offsets = offsets->buf;
    scheme->ngram = ngram;
    scheme->leaving_base = 1;
    for (int i = 0; i < ngram; i++) scheme->leaving_base *= TOKEN_BASE;
    return 1;
}

/* The strings stay alive and unchanged while `strings` (our own tuple) holds them: strings are immutable. */
static Text *borrow_texts(PyObject *strings) {
    const Py_ssize_t count = PyTuple_GET_SIZE(strings);
    Text *texts = PyMem_New(Text, count ? count : 1);
    if (!texts) return (Text *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *string = PyTuple_GET_ITEM(strings, i);
        if (!PyUnicode_Check(string)) {
            PyErr_Format(PyExc_TypeError, "text %zd is no string", i);
            PyMem_Free(texts);
            return NULL;
        }
#if PY_VERSION_HEX < 0x030C0000
        if (PyUnicode_READY(string) < 0) {
            PyMem_Free(texts);
            return NULL;
        }
#endif
        texts[i] = (Text){(int)PyUnicode_KIND(string), PyUnicode_DATA(string), PyUnicode_GET_LENGTH(string)};
    }
    return texts;
}

static PyObject *sign_all(PyObject *strings, const Scheme *scheme) {
    const Py_ssize_t count = PyTuple_GET_SIZE(strings), row = scheme->permutations * 4;
    if (count > PY_SSIZE_T_MAX / row) return PyErr_NoMemory();
    Text *texts = borrow_texts(strings);
    if (!texts) return NULL;
    PyObject *signatures = PyByteArray_FromStringAndSize(NULL, count * row);
    if (signatures) {
        uint32_t *rows = (uint32_t *)PyByteArray_AS_STRING(signatures);
        Py_BEGIN_ALLOW_THREADS;
        for (Py_ssize_t i = 0; i < count; i++) sign(&texts[i], scheme, rows + i * scheme->permutations);
        Py_END_ALLOW_THREADS;
    }
    PyMem_Free(texts);
    return signatures;
}

PyDoc_STRVAR(signatures_doc,
             "signatures(texts, table, multipliers, offsets, ngram) -> bytearray\n\n"
             "uint32 [texts, permutations], native byte order; all ones for a text without tokens.");

static PyObject *signatures(PyObject *module, PyObject *args) {
    PyObject *texts, *result = NULL;
    Py_buffer table, multipliers, offsets;
    int ngram;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oy*y*y*i", &texts, &table, &multipliers, &offsets, &ngram)) return NULL;
    Scheme scheme;
    if (make_scheme(&scheme, &table, &multipliers, &offsets, ngram)) {
        PyObject *strings = PySequence_Tuple(texts);
        if (strings) {
            result = sign_all(strings, &scheme);
            Py_DECREF(strings);
        }
    }
    PyBuffer_Release(&table);
    PyBuffer_Release(&multipliers);
    PyBuffer_Release(&offsets);
    return result;
}

/* Copies all but ASCII white space and returns the number of bytes; without a branch, as words end where they like. */
static Py_ssize_t squeeze(const uint8_t *restrict from, Py_ssize_t length, uint8_t *restrict to) {
    Py_ssize_t kept = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        const uint8_t byte = from[i];
        to[kept] = byte;
        kept += (byte != ' ') & ((uint8_t)(byte - '\t') > '\r' - '\t');
    }
    return kept;
}

PyDoc_STRVAR(without_white_space_doc,
             "without_white_space(text) -> bytes\n\n"
             "UTF-8 (lone surrogates too) of the text without ASCII white space.");

static PyObject *without_white_space(PyObject *module, PyObject *text) {
    (void)module;
    if (!PyUnicode_Check(text)) return PyErr_Format(PyExc_TypeError, "text is no string");
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(text) < 0) return NULL;
#endif
    PyObject *encoded = NULL;
    const uint8_t *from = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    if (!PyUnicode_IS_ASCII(text)) {
        encoded = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
        if (!encoded) return NULL;
        from = (const uint8_t *)PyBytes_AS_STRING(encoded);
        length = PyBytes_GET_SIZE(encoded);
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, length);
    if (result && length) _PyBytes_Resize(&result, squeeze(from, length, (uint8_t *)PyBytes_AS_STRING(result)));
    Py_XDECREF(encoded);
    return result;
}

static PyMethodDef methods[] = {{"signatures", signatures, METH_VARARGS, signatures_doc},
                                {"without_white_space", without_white_space, METH_O, without_white_space_doc},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_minhash", "Hashes of many texts.", 0,
                                        methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__minhash(void) { return PyModule_Create(&definition); }
