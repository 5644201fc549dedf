/* SPDX-License-Identifier: Apache-2.0 */
/* What C++ and the corners of C make of a PDB; check_pdb.py compiles it. */
struct later;
struct held { later *forward; const volatile long *qualified; char text[3][5]; };
struct later { held *back; held inside; unsigned a : 3; unsigned b : 29; long long wide : 40; };
union both { later whole; double real; bool truth; wchar_t letter; };
enum small : unsigned char { small_first = 1, small_last = 255 };
enum negative { negative_one = -1, negative_large = -2147483647, positive_large = 2147483647 };
enum class wide : unsigned long long { top = 0xffffffffffffffffull, middle = 0x123456789abcull };
struct base {
	int in_base;
	static int shared;
	virtual ~base();
	virtual int method(int) const;
	int plain(const char *, ...);
	struct nested { short s; } inner;
	typedef nested alias;
};
struct second { char in_second; };
struct derived : base, second { long long in_derived; int method(int) const override; };
struct virtually : virtual base { int in_virtually; };
struct nameless {
	union { int left; float right; };
	struct { int one; union { char two; short three; } deep; } named;
	struct { unsigned low : 4, : 4, high : 8; } bits;
};
struct empty {};
struct flexible { int count; int items[1]; };
struct pointers {
	int (*function)(struct later *, unsigned);
	int (base::*member_function)(const char *, ...);
	int base::*member;
	void *nothing;
	held **twice;
	empty none[4];
};
template <typename T> struct holder { T value; holder *next; };

held a_held; later a_later; both a_both; derived a_derived; virtually a_virtually;
nameless a_nameless; flexible a_flexible; pointers a_pointers; holder<later> a_holder;
small a_small; negative a_negative; wide a_wide;
int base::shared;
static long long a_static = 5;
base::~base() {}
int base::method(int x) const { return x; }
int base::plain(const char *, ...) { return shared; }
int derived::method(int x) const { return x + (int)a_static++; }
void operator delete(void *, decltype(sizeof(0))) noexcept {}
extern "C" {
int _purecall() { return 0; }
const void *vtable_of_type_info;
#ifdef __i386__
int __stdcall with_bytes(int x, int y) { return x + y; }
int __fastcall fast_one(int x, int y) { return x * y; }
#endif
int entry() { return (int)a_static; }
}
