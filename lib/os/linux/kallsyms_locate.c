/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/kallsyms_format.h"

/* Three markers, to check names by: smaller kernels there are none. */
#define MARKERS_MIN 3u
/* How far before its end the last, partial segment of the names may start. */
#define LAST_SEGMENT_MAX (32u * 1024)
/* The count of symbols has its own checks; so many false ones mean that somebody plays with us. */
#define COUNT_TRIES 8u
/* How much the search for the end of the seqs may run over into the tables before them. */
#define OVERRUN_WORDS 32u
#define SAMPLE 256u
#define WINDOW (16u * 1024)

/* Bytes that are walked downwards. */
struct window {
	const struct source *source;
	uint64_t at;
	size_t len;
	uint8_t bytes[WINDOW];
};

struct search {
	const struct source *source;
	struct kallsyms found;
	uint32_t tries;
	struct window window;
	struct tokens tokens;
	uint8_t markers[MARKERS_MAX * 8];
	uint8_t segment[SEGMENT_MAX];
};

static const uint8_t *move_window(struct window *window, uint64_t address, size_t len)
{
	uint64_t end = address + len;

	if (end < address)
		return NULL;
	window->len = 0;
	/* Less and less, as the RAM may begin somewhere in it. */
	for (size_t n = MIN(WINDOW, end); n >= len; n = n > len && n / 2 < len ? len : n / 2) {
		if (source_read(window->source, end - n, window->bytes, n) == 0) {
			window->at = end - n;
			window->len = n;
			return window->bytes + (n - len);
		}
	}
	return NULL;
}

/* [address, address + len), or NULL if it cannot be read. */
static inline const uint8_t *look(struct window *window, uint64_t address, size_t len)
{
	if (window->len >= len && address >= window->at &&
	    address - window->at <= window->len - len)
		return window->bytes + (address - window->at);
	return move_window(window, address, len);
}

/* As much as there is of [address, address + len). */
static size_t read_some(const struct source *source, uint64_t address, uint8_t *buf, size_t len)
{
	size_t done = 0;

	for (size_t n = len; n > 0 && done < len;) {
		n = MIN(n, len - done);
		if (source_read(source, address + done, buf + done, n) == 0)
			done += n;
		else
			n /= 2;
	}
	return done;
}

static uint64_t load_marker(const uint8_t *p, uint32_t bytes)
{
	return bytes == 8 ? load_le64(p) : load_le32(p);
}

static bool markers_follow(uint64_t marker, uint64_t next)
{
	return next > marker && next - marker >= SEGMENT_MIN && next - marker <= SEGMENT_MAX &&
	       next <= SYMBOL_NAMES_MAX;
}

/* Where an array of markers, the first of which is 0, starts if it or a part of it ends there. */
static bool markers_before(struct search *search, uint64_t end, uint32_t bytes, uint64_t *at_ret)
{
	uint64_t next = 0;

	for (uint32_t n = 1; n <= MARKERS_MAX; n++) {
		if (end < (uint64_t)n * bytes)
			return false;
		const uint8_t *p = look(&search->window, end - (uint64_t)n * bytes, bytes);
		if (!p)
			return false;
		uint64_t marker = load_marker(p, bytes);
		if (n == 1 ? marker == 0 : !markers_follow(marker, next))
			return false;
		if (marker == 0) {
			*at_ret = end - (uint64_t)n * bytes;
			return n >= MARKERS_MIN;
		}
		next = marker;
	}
	return false;
}

/* The markers right before the token table, behind at most some padding. */
static bool find_near_markers(struct search *search)
{
	struct kallsyms *found = &search->found;
	uint64_t end = found->token_table_at;

	found->marker_bytes = 4;
	if (markers_before(search, end, 4, &found->markers_at) ||
	    (end >= 4 && markers_before(search, end - 4, 4, &found->markers_at)))
		return true;
	found->marker_bytes = 8;
	return markers_before(search, end, 8, &found->markers_at);
}

/* A number of 4 bytes is in the machine's order, one of 3 is not. */
static uint32_t load_seq(const uint8_t *p, uint32_t bytes)
{
	return bytes == 4 ? load_le32(p) : (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

/* How far down from `end` what lies there could be seqs, which are numbers of symbols. */
static uint64_t seqs_reach(struct search *search, uint64_t end, uint32_t bytes)
{
	uint64_t at = end;

	for (uint32_t n = 0; n < SYMBOLS_MAX && at >= bytes; n++, at -= bytes) {
		const uint8_t *p = look(&search->window, at - bytes, bytes);
		if (!p)
			break;
		if (load_seq(p, bytes) >= SYMBOLS_MAX)
			break;
	}
	return at;
}

/*
 * The markers before the seqs before the token table. Neither the width nor the number of the seqs
 * is known, but they can be told from markers and from a preceding token table: as a search runs
 * into those it stops, and hostile memory costs about one pass however many tables it holds.
 */
static bool find_far_markers(struct search *search)
{
	struct kallsyms *found = &search->found;
	uint64_t table = found->token_table_at;
	uint64_t low = seqs_reach(search, table, 4);

	found->marker_bytes = 4;
	for (uint32_t phase = 0; phase < 3 && phase <= table; phase++)
		low = MIN(low, seqs_reach(search, table - phase, 3));
	if (table - low < (MARKERS_MIN - 1) * NAMES_PER_MARKER * 3)
		return false;
	/* Downwards, to read once. */
	for (uint64_t words = OVERRUN_WORDS + 1; words-- > 0;) {
		uint64_t end = table - (table - low) / 4 * 4 + 4 * words;
		if (end < table && markers_before(search, end, 4, &found->markers_at))
			return true;
	}
	return false;
}

/* Copies the markers; returns how many there are at most. */
static uint32_t read_markers(struct search *search)
{
	struct kallsyms *found = &search->found;
	uint32_t bytes = found->marker_bytes, n = 1;
	size_t len = (size_t)MIN(found->token_table_at - found->markers_at,
				 (uint64_t)MARKERS_MAX * bytes);

	len = read_some(search->source, found->markers_at, search->markers, len);
	while ((n + 1) * (size_t)bytes <= len &&
	       markers_follow(load_marker(search->markers + (n - 1) * bytes, bytes),
			      load_marker(search->markers + n * bytes, bytes)))
		n++;
	return n;
}

static uint64_t marker(const struct search *search, uint32_t index)
{
	uint32_t bytes = search->found.marker_bytes;
	return load_marker(search->markers + (size_t)index * bytes, bytes);
}

/* Between markers and token table there are the seqs of all symbols, or nothing. */
static bool check_gap(struct search *search)
{
	struct kallsyms *found = &search->found;
	uint64_t end = found->markers_at +
		       (uint64_t)markers_for(found->count) * found->marker_bytes;

	found->seqs_at = 0;
	found->seqs_bytes = 0;
	if (end > found->token_table_at)
		return false;
	uint64_t gap = found->token_table_at - end;
	if (gap < ALIGNMENT)
		return true;
	for (uint32_t bytes = 3; bytes <= 4; bytes++) {
		for (uint32_t align = 4; align <= ALIGNMENT; align *= 2) {
			/* The token table is as aligned as all the others. */
			uint64_t len = align_up((uint64_t)found->count * bytes, align);
			if (gap < len || gap - len >= align || (gap - len) % 4)
				continue;
			found->seqs_bytes = bytes;
			found->seqs_at = found->token_table_at - len;
			return true;
		}
	}
	return false;
}

static bool kind_plausible(uint8_t kind)
{
	return (kind >= 'A' && kind <= 'Z') || (kind >= 'a' && kind <= 'z') || kind == '?';
}

/* Reads the names [from, to) and sees whether so many of one kind fill them; returns their end. */
static uint64_t check_segment(struct search *search, uint64_t from, uint64_t to, uint32_t count)
{
	struct kallsyms *found = &search->found;
	size_t len = (size_t)(to - from);

	if (len > sizeof(search->segment) ||
	    source_read(search->source, found->names_at + from, search->segment, len) < 0)
		return 0;
	size_t one = names_span(search->segment, len, count, false);
	size_t two = names_span(search->segment, len, count, true);
	/* Up to padding. Where both are right there is no long name. */
	if (two > 0 && len - two < ALIGNMENT) {
		found->uleb_lengths |= one != two;
		return from + two;
	}
	return one > 0 && len - one < ALIGNMENT ? from + one : 0;
}

static bool check_kinds(struct search *search, uint64_t len)
{
	uint8_t name[NAME_BUFFER];
	size_t at = 0;

	for (uint32_t i = 0; i < NAMES_PER_MARKER; i++) {
		size_t n = name_length(search->segment, (size_t)len, &at,
				       search->found.uleb_lengths);
		if (tokens_expand(&search->tokens, search->segment + at, n, name) < 2 ||
		    !kind_plausible(name[0]))
			return false;
		at += n;
	}
	return true;
}

static bool check_names(struct search *search)
{
	struct kallsyms *found = &search->found;
	uint32_t last = markers_for(found->count) - 1;

	found->uleb_lengths = false;
	if (check_segment(search, 0, marker(search, 1), NAMES_PER_MARKER) != marker(search, 1) ||
	    !check_kinds(search, marker(search, 1)) ||
	    check_segment(search, marker(search, 1), marker(search, 2), NAMES_PER_MARKER) !=
		    marker(search, 2))
		return false;
	found->names_len =
		(uint32_t)check_segment(search, marker(search, last),
					found->markers_at - found->names_at,
					found->count - last * NAMES_PER_MARKER);
	return found->names_len > 0;
}

/* Are the addresses of this mode at this place? Judged by some at each end and in the middle. */
static bool try_mode(struct search *search, uint64_t at, enum kallsyms_mode mode)
{
	struct kallsyms *found = &search->found;
	struct address_order order = {0};
	uint32_t bytes = address_bytes(mode);

	found->offsets_at = at;
	found->address_mode = mode;
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t first = (uint32_t)((uint64_t)(found->count - SAMPLE) * i / 2);
		if (source_read(search->source, at + (uint64_t)first * bytes, search->segment,
				(size_t)SAMPLE * bytes) < 0)
			return false;
		for (uint32_t j = 0; j < SAMPLE; j++)
			address_order_add(&order,
					  address_decode(found, search->segment + (size_t)j * bytes,
							 first + j));
	}
	return address_order_plausible(&order, found);
}

static bool try_relative(struct search *search, uint64_t at, uint64_t base_at)
{
	struct kallsyms *found = &search->found;
	uint8_t base[8];

	if (source_read(search->source, base_at, base, sizeof(base)) < 0 ||
	    load_le64(base) < KERNEL_HALF)
		return false;
	found->relative_base = load_le64(base);
	found->relative_base_at = base_at;
	if (try_mode(search, at, KALLSYMS_RELATIVE) || try_mode(search, at, KALLSYMS_PERCPU))
		return true;
	found->relative_base = 0;
	found->relative_base_at = 0;
	return false;
}

/* Do [at, at + SAMPLE) hold numbers of symbols? */
static bool seqs_plausible(struct search *search, uint64_t at, uint32_t bytes)
{
	if (source_read(search->source, at, search->segment, (size_t)SAMPLE * bytes) < 0)
		return false;
	uint32_t previous = UINT32_MAX;
	for (uint32_t i = 0; i < SAMPLE; i++) {
		uint32_t seq = load_seq(search->segment + (size_t)i * bytes, bytes);
		if (seq >= search->found.count || seq == previous)
			return false;
		previous = seq;
	}
	return true;
}

static bool find_seqs_at(struct search *search, uint64_t at)
{
	struct kallsyms *found = &search->found;

	for (uint32_t bytes = 3; bytes <= 4; bytes++) {
		if (!seqs_plausible(search, at, bytes))
			continue;
		found->seqs_at = at;
		found->seqs_bytes = bytes;
		found->end = at + (uint64_t)found->count * bytes;
		return true;
	}
	return false;
}

/* Addresses behind the token index: 6.4. */
static bool find_addresses_behind(struct search *search)
{
	struct kallsyms *found = &search->found;
	uint64_t at = found->token_index_at + TOKEN_INDEX_BYTES;
	uint64_t base_at = at + align_up((uint64_t)found->count * 4, ALIGNMENT);

	if (try_relative(search, at, base_at))
		found->end = base_at + 8;
	else if (try_mode(search, at, KALLSYMS_ABSOLUTE))
		found->end = at + (uint64_t)found->count * 8;
	else if (try_mode(search, at, KALLSYMS_PCREL))
		found->end = at + (uint64_t)found->count * 4;
	else
		return false;
	if (found->seqs_at == 0 && !find_seqs_at(search, found->end))
		find_seqs_at(search, align_up(found->end, ALIGNMENT));
	return true;
}

/* Addresses before the count: before 6.4. */
static bool find_addresses_before(struct search *search)
{
	struct kallsyms *found = &search->found;
	uint64_t end = found->num_syms_at, count = found->count;

	found->end = found->token_index_at + TOKEN_INDEX_BYTES;
	return (end >= 8 + align_up(count * 4, ALIGNMENT) &&
		try_relative(search, end - 8 - align_up(count * 4, ALIGNMENT), end - 8)) ||
	       (end >= count * 8 && try_mode(search, end - count * 8, KALLSYMS_ABSOLUTE));
}

/* If this is the count of symbols, and the names are right behind it, all the rest must fit. */
static bool try_count(struct search *search, uint32_t count, uint64_t at, uint32_t bytes)
{
	struct kallsyms *found = &search->found;

	if (count > SYMBOLS_MAX)
		return false;
	found->num_syms_at = at;
	found->names_at = at + bytes;
	found->count = count;
	return check_gap(search) && check_names(search) &&
	       (find_addresses_behind(search) || find_addresses_before(search));
}

/* The next word below `at`, not below `low`, that counts symbols with so many markers. */
static bool next_count(struct window *window, uint64_t low, uint32_t markers, uint64_t *at)
{
	uint32_t least = (markers - 1) * NAMES_PER_MARKER + 1;

	while (*at >= low + 4) {
		const uint8_t *p = look(window, *at - 4, 4);
		if (!p)
			return false;
		/* As far down as the window reaches. */
		size_t words = (size_t)MIN((uint64_t)(p - window->bytes), *at - 4 - low) / 4 + 1;
		for (size_t i = 0; i < words; i++) {
			*at -= 4;
			if (load_le32(p - 4 * i) - least < NAMES_PER_MARKER)
				return true;
		}
	}
	return false;
}

/*
 * The last marker tells about where the names start, and the count of symbols stands before them:
 * in 4 bytes, or in 8, which for little-endian machines is the same as 4 and their padding.
 */
static bool find_count(struct search *search, uint32_t markers)
{
	const struct kallsyms *found = &search->found;
	uint64_t last = align_up(marker(search, markers - 1), 4);

	if (found->markers_at < last)
		return false;
	uint64_t at = found->markers_at - last, low = at - MIN(at, LAST_SEGMENT_MAX);
	while (next_count(&search->window, low, markers, &at) && search->tries++ < COUNT_TRIES) {
		uint8_t both[8];
		if (source_read(search->source, at, both, sizeof(both)) == 0 &&
		    try_count(search, load_le32(both), at, load_le32(both + 4) ? 4 : 8))
			return true;
	}
	return false;
}

static bool locate(struct search *search)
{
	struct kallsyms *found = &search->found;

	size_t len = read_some(search->source, found->token_table_at, search->segment,
			       KALLSYMS_TOKEN_TABLE_MAX);
	if (tokens_parse(&search->tokens, search->segment, len) < 0)
		return false;
	found->token_index_at = found->token_table_at + search->tokens.index_at;
	bool near = find_near_markers(search);
	if (!near && !find_far_markers(search))
		return false;
	uint32_t markers = read_markers(search);
	if (markers >= MARKERS_MIN && find_count(search, markers))
		return true;
	/* The first of the seqs may by chance look like one more marker. */
	return !near && markers > MARKERS_MIN && find_count(search, markers - 1);
}

int kallsyms_locate(const struct source *source, uint64_t token_table, struct kallsyms *ret)
{
	CLEANUP_FREE struct search *search = malloc(sizeof(*search));

	if (!search)
		return -ENOMEM;
	/* Not the buffers, which are big. */
	search->source = source;
	search->found = (struct kallsyms){.token_table_at = token_table};
	search->tries = 0;
	search->window.source = source;
	search->window.len = 0;
	if (!locate(search))
		return -ENOENT;
	*ret = search->found;
	return 0;
}
