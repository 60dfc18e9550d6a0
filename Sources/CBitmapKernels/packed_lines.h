// Lines of an answer, moved into a bitmap through the mappings of a table as its leaves pack them.
// Included by body.h, after packed.h.
//
// Reading the table, reading the answer and writing the log take turns at every few lines here, so
// that all three wait for memory at the same time. One after the other for a leaf each, they take a
// third longer.

// What stays as it is while leaves are read.
typedef struct line_limits {
  smudge_answer answer;
  uint64_t gpa_first;
  // The last offset in the target, and the last word of the answer, that a line may begin at.
  uint64_t offset_max;
  uint64_t word_max;
} line_limits;

// What is written.
typedef struct line_mover {
  smudge_bitmap target;
  uint64_t *answer;
  // All ones when what the summary says is clean is not written past the caches either.
  uint64_t unstreamed;
  // Words of the answer below this one are zero.
  uint64_t clear_end;
  // Lines of the target that had to be read.
  uint64_t known;
  // Whether all lines were dirty, of late: then looking first only costs. Where some are clean a
  // branch for each would be guessed wrong.
  int is_dense;
  counts counts;
} line_mover;

// The line of the target that a slot's mapping begins in.
INLINE uint64_t target_line(const smudge_packed *packed, const line_limits *l, uint64_t i) {
  return (packed_values(packed)[i] - l->gpa_first) >> (l->answer.page_shift + 9);
}

// Whether a slot's mapping, which may be written, is a line of both: `*from` and `*to` are then
// where.
INLINE int is_line(const smudge_packed *packed, const line_limits *l, uint64_t i, uint64_t *from,
                   uint64_t *to) {
  const smudge_answer *a = &l->answer;
  uint64_t key = packed->keys[i], bytes = 512ull << a->page_shift;
  uint64_t distance = (key & ~0xfffull) - a->window_first, word = distance >> a->page_shift >> 6;
  uint64_t offset = (packed_values(packed)[i] & ~0xfffull) - l->gpa_first;
  uint64_t odd = (packed_extents(packed)[i] & 0xffffffff) ^ ((bytes >> 12) - 1);
  odd |= (key & 0x3fc) | (distance & ((64ull << a->page_shift) - 1)) | (offset & (bytes - 1));
  *from = word;
  *to = offset >> a->page_shift >> 9;
  return odd == 0 && (key & ~0xfffull) >= a->window_first && word <= l->word_max &&
         offset <= l->offset_max;
}

// Whether all mappings, known to lie side by side, are a line of the answer each as far as it goes,
// and may be written. `*word` is then the first word of the first.
INLINE int are_known_lines(const smudge_packed *packed, const line_limits *l, uint64_t *word) {
  const smudge_answer *a = &l->answer;
  uint64_t key = packed->keys[0], distance = (key & ~0xfffull) - a->window_first;
  *word = distance >> a->page_shift >> 6;
  return packed->even_page_count == 512ull << a->page_shift >> 12 &&
         (key & a->write_permission) != 0 && key >= a->window_first &&
         (distance & ((64ull << a->page_shift) - 1)) == 0;
}

// Whether STEP mappings from `i` on, of a line each, go to a line of the target each.
INLINE int are_targets(const smudge_packed *packed, const line_limits *l, uint64_t i) {
  uint64_t bytes = 512ull << l->answer.page_shift;
  line offset = line_subtract(line_load(packed_values(packed) + i), line_all(l->gpa_first));
  // Below 2^63, and not above the most.
  line beyond = line_or(offset, line_subtract(line_all(l->offset_max | 0xfff), offset));
  return line_is_zero(line_or(line_and(offset, line_all((bytes - 1) & ~0xfffull)),
                              line_and(beyond, line_all(1ull << 63))));
}

// `from` has bits.
INLINE void move_line(line_mover *m, uint64_t from, uint64_t to) {
  uint64_t *source = m->answer + from, *summary = m->target.lines + (to >> 6);
  line bits = line_load(source);
  uint64_t of_block = *summary;
  uint64_t bit = 1ull << (to & 63);
  if (((of_block | m->unstreamed) & bit) == 0) {
    add_line(m->target.words + to * 8, bits, 1, &m->counts);
  } else {
    m->known++;
    add_line(m->target.words + to * 8, bits, 0, &m->counts);
  }
  *summary = of_block | bit;
  // A block with a line has been marked.
  if (of_block == 0) m->target.blocks[to >> 12] |= 1ull << (to >> 6 & 63);
  line_store(source, line_zero());
}

// Lines of the target that have to be read come together when they were asked for together.
INLINE void ask_for_targets(const line_mover *m, uint64_t dirty, const smudge_packed *packed,
                            const line_limits *l, uint64_t i) {
  for (; dirty != 0; dirty &= dirty - 1) {
    uint64_t line = target_line(packed, l, i + (uint64_t)__builtin_ctzll(dirty));
    __builtin_prefetch(m->target.words + line * 8, 1);
  }
}

// STEP lines of the answer from `word` on, nearly all of which have bits, to where the mappings
// from `i` on say. Returns whether all had.
INLINE int move_dense(line_mover *m, uint64_t word, const smudge_packed *packed,
                      const line_limits *l, uint64_t i) {
  uint64_t *source = m->answer + word;
  int are_dense = 1;
#pragma unroll
  for (uint64_t k = 0; k < STEP; k++) {
    ask_for(source + STREAM_AHEAD + k * 8);
    if (line_is_zero(line_load(source + k * 8))) {
      are_dense = 0;
    } else {
      move_line(m, word + k * 8, target_line(packed, l, i + k));
    }
  }
  return are_dense;
}

// From slot `i` on, as long as STEP mappings are lines side by side. With `are_known` they are, and
// only where they go has to be looked at; `first_word` is then that of slot 0. Returns the first
// slot that is not done with.
INLINE uint64_t move_steps(const smudge_packed *leaf, uint64_t i, const line_limits *limits,
                           line_mover *mover, int are_known, uint64_t first_word) {
  enum { ALL = (1 << STEP) - 1 };
  smudge_packed packed = *leaf;
  const line_limits l = *limits;
  line_mover m = *mover;
  // How many lines of the target had been read before the last step; none to begin with.
  uint64_t known = m.known | m.unstreamed, word;
  for (; packed.count - i >= STEP; i += STEP) {
    if (are_known) {
      ask_values_ahead(&packed, i);
      word = first_word + i * 8;
      if (word + (STEP - 1) * 8 > l.word_max) break;
    } else {
      ask_ahead(&packed, i);
      if (!are_lines(&packed, &l.answer, i, &word)) break;
    }
    if (!are_targets(&packed, &l, i)) break;
    m.clear_end += m.clear_end == word ? STEP * 8 : 0;
    uint64_t *source = m.answer + word;
    if (m.is_dense && m.known == known) {
      m.is_dense = move_dense(&m, word, &packed, &l, i);
      continue;
    }
    for (uint64_t k = 0; k < STEP; k++) ask_for(source + STREAM_AHEAD + k * 8);
    uint64_t dirty = nonzero_lines(source, 0, STEP, 0);
    if (m.known != known) ask_for_targets(&m, dirty, &packed, &l, i);
    known = m.known | m.unstreamed;
    m.is_dense = dirty == ALL;
    for (; dirty != 0; dirty &= dirty - 1) {
      uint64_t k = (uint64_t)__builtin_ctzll(dirty);
      move_line(&m, word + k * 8, target_line(&packed, &l, i + k));
    }
  }
  *mover = m;
  return i;
}

// Not inlined, and apart, with as few steps for each line as will do: the more there are, the fewer
// lines are on their way through memory at once.
static __attribute__((noinline)) uint64_t move_known(const smudge_packed *leaf, uint64_t i,
                                                     const line_limits *l, line_mover *m,
                                                     uint64_t first_word) {
  return move_steps(leaf, i, l, m, 1, first_word);
}
static __attribute__((noinline)) uint64_t move_even(const smudge_packed *leaf, uint64_t i,
                                                    const line_limits *l, line_mover *m) {
  return move_steps(leaf, i, l, m, 0, 0);
}

// Slots from `i` to before `end`. Returns how many are no lines and may be dirty.
static __attribute__((noinline)) uint64_t move_slots(const smudge_packed *packed, uint64_t i,
                                                     uint64_t end, const line_limits *l,
                                                     line_mover *mover) {
  line_mover m = *mover;
  uint64_t left = 0, from, to;
  for (; i < end; i++) {
    if ((packed->keys[i] & l->answer.write_permission) == 0) continue;
    if (is_line(packed, l, i, &from, &to)) {
      if (!line_is_zero(line_load(m.answer + from))) move_line(&m, from, to);
      m.clear_end += m.clear_end == from ? 8 : 0;
    } else {
      left += slot_may_be_dirty(packed, &l->answer, i);
    }
  }
  *mover = m;
  return left;
}

static void move_lines(const smudge_packed *leaves, size_t leaf_count, smudge_line_move *move) {
  line_limits l = {
      .answer = {move->answer, move->window_first, move->window_last, move->page_shift,
                 move->write_permission},
      .gpa_first = move->target_gpa_first,
  };
  // Pages of the window less one. A line is 512 whole pages of both.
  uint64_t pages = (move->window_last - move->window_first) >> move->page_shift;
  if (pages < 511 || move->target.page_count < 512) {
    for (size_t k = 0; k < leaf_count; k++) move->left_count += leaves[k].count;
    return;
  }
  l.word_max = (pages - 511) >> 6;
  // So that offsets can be compared as signed: what lies further is left.
  uint64_t target_pages = move->target.page_count - 512, pages_max = 1ull << 62 >> move->page_shift;
  l.offset_max = (target_pages < pages_max ? target_pages : pages_max) << move->page_shift;
  line_mover m = {move->target, move->answer, move->streams ? 0 : ~0ull, move->clear_word_count,
                  0, 0, {tally_zero(), 0, 0}};
  for (size_t k = 0; k < leaf_count; k++) {
    uint64_t first_word;
    int are_known = are_known_lines(&leaves[k], &l, &first_word);
    if (are_known && leaves[k].count % STEP != 0) {
      // The last few are looked at as any are.
      ask_for(leaves[k].keys + leaves[k].count - 1);
      ask_for(packed_extents(&leaves[k]) + leaves[k].count - 1);
    }
    for (uint64_t i = 0; i < leaves[k].count;) {
      i = are_known ? move_known(&leaves[k], i, &l, &m, first_word)
                    : move_even(&leaves[k], i, &l, &m);
      uint64_t end = leaves[k].count - i < STEP ? leaves[k].count : i + STEP;
      move->left_count += move_slots(&leaves[k], i, end, &l, &m);
      i = end;
    }
  }
  if (move->streams) stream_end();
  move->clear_word_count = m.clear_end;
  move->hit_count += tally_hit(&m.counts.lines);
  move->newly_count += tally_newly(&m.counts.lines);
}
