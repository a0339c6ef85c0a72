package collect

import (
	"math"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// at is so many minutes after the agent has started.
func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

func idsOf(images []Image) []string {
	ids := []string{}
	for _, i := range images {
		ids = append(ids, i.ID)
	}
	return ids
}

func TestWhichImagesGoForSpace(t *testing.T) {
	never := func(id string, detected int) Image { return Image{ID: id, Size: 10, Detected: at(detected)} }
	used := func(id string, detected, last int) Image {
		return Image{ID: id, Size: 10, Detected: at(detected), Used: at(last)}
	}
	kept := func(i Image) Image { i.Kept = true; return i }
	claimed := func(i Image, when int) Image { i.Claimed = at(when); return i }
	sized := func(i Image, size uint64) Image { i.Size = size; return i }
	two := Policy{MinAge: 2 * time.Minute}
	for name, tt := range map[string]struct {
		images []Image
		policy Policy
		now    int
		bytes  uint64
		want   []string
		ripe   int // 0: none
	}{
		"no images":                           {nil, two, 10, 5, nil, 0},
		"least recently used first":           {[]Image{used("b", 0, 3), used("a", 0, 4), used("c", 0, 2)}, two, 10, 30, []string{"c", "b", "a"}, 0},
		"never used before all others":        {[]Image{used("a", 0, 1), never("z", 5)}, two, 10, 20, []string{"z", "a"}, 0},
		"of those never used the older first": {[]Image{never("a", 3), never("b", 1)}, two, 10, 20, []string{"b", "a"}, 0},
		"a tie goes by ID":                    {[]Image{never("b", 0), never("a", 0)}, two, 10, 10, []string{"a"}, 0},
		"no more than needed":                 {[]Image{never("a", 0), never("b", 1), never("c", 2)}, two, 10, 11, []string{"a", "b"}, 0},
		"exactly enough":                      {[]Image{never("a", 0), never("b", 1)}, two, 10, 10, []string{"a"}, 0},
		"in use or pinned":                    {[]Image{kept(never("a", 0)), never("b", 1)}, two, 10, 100, []string{"b"}, 0},
		"too young":                           {[]Image{never("a", 0), never("b", 9)}, two, 10, 100, []string{"a"}, 11},
		"the last of the young":               {[]Image{never("a", 9), never("b", 10)}, two, 10, 100, nil, 12},
		"nobody waits for what is not needed": {[]Image{never("b", 9), used("a", 0, 1)}, two, 10, 10, []string{"a"}, 0},
		"of age to the second":                {[]Image{never("a", 8)}, two, 10, 1, []string{"a"}, 0},
		"a container is about to be made":     {[]Image{claimed(never("a", 0), 9), never("b", 1)}, two, 10, 100, []string{"b"}, 11},
		"without a minimum age":               {[]Image{never("a", 10)}, Policy{}, 10, 1, []string{"a"}, 0},
		"sizes that cannot be": {[]Image{sized(never("a", 0), math.MaxUint64), sized(never("b", 0), math.MaxUint64), never("c", 0)}, two, 10, math.MaxUint64,
			[]string{"a"}, 0},
		"all of them": {[]Image{sized(never("a", 0), math.MaxUint64-1), never("b", 0), never("c", 0)}, two, 10, math.MaxUint64, []string{"a", "b"}, 0},
	} {
		before := slices.Clone(tt.images)
		got, ripe := forSpace(tt.images, tt.policy, at(tt.now), tt.bytes)
		if !slices.Equal(idsOf(got), append([]string{}, tt.want...)) {
			t.Errorf("%s: %q, want %q", name, idsOf(got), tt.want)
		}
		if want := at(tt.ripe); tt.ripe == 0 && !ripe.IsZero() || tt.ripe != 0 && !ripe.Equal(want) {
			t.Errorf("%s: the others are of age at %v, want minute %d", name, ripe, tt.ripe)
		}
		if !slices.Equal(before, tt.images) {
			t.Errorf("%s: the list was changed", name)
		}
	}
}

func TestWhichImagesGoForAge(t *testing.T) {
	for name, tt := range map[string]struct {
		image Image
		max   time.Duration
		want  bool
	}{
		"never":             {Image{Detected: at(0)}, 0, false},
		"used too long ago": {Image{Detected: at(0), Used: at(10)}, 49 * time.Minute, true},
		"just not":          {Image{Detected: at(0), Used: at(10)}, 50 * time.Minute, false},
		"in use":            {Image{Detected: at(0), Used: at(10), Kept: true}, time.Minute, false},
		"never used, new":   {Image{Detected: at(50)}, 10 * time.Minute, false},
		"never used, old":   {Image{Detected: at(49)}, 10 * time.Minute, true},
	} {
		if got := len(forAge([]Image{tt.image}, Policy{MaxAge: tt.max}, at(60))) > 0; got != tt.want {
			t.Errorf("%s: removed: %v, want %v", name, got, tt.want)
		}
	}
}

func TestHowMuchHasToBeFreed(t *testing.T) {
	p := Policy{HighPercent: 85, LowPercent: 80}
	const huge = math.MaxUint64
	for name, tt := range map[string]struct {
		policy Policy
		fs     FileSystem
		usage  int
		excess uint64
	}{
		"empty":                      {p, FileSystem{1000, 1000}, 0, 0},
		"below":                      {p, FileSystem{1000, 160}, 84, 0},
		"at the threshold":           {p, FileSystem{1000, 150}, 85, 50},
		"a part counts as a whole":   {p, FileSystem{1000, 155}, 85, 45},
		"full":                       {p, FileSystem{1000, 0}, 100, 200},
		"more available than it has": {p, FileSystem{1000, 2000}, 0, 0},
		"high at 100":                {Policy{HighPercent: 100, LowPercent: 80}, FileSystem{1000, 10}, 99, 0},
		"high at 0":                  {Policy{HighPercent: 0, LowPercent: 0}, FileSystem{1000, 900}, 10, 100},
		"no overflow":                {p, FileSystem{huge, huge / 100}, 100, share(huge, 20, 100) - huge/100},
	} {
		if got := tt.fs.usage(); got != tt.usage {
			t.Errorf("%s: usage %d %%, want %d %%", name, got, tt.usage)
		}
		if got := tt.policy.excess(tt.fs); got != tt.excess {
			t.Errorf("%s: %d bytes have to be freed, want %d", name, got, tt.excess)
		}
	}
}

func TestHowMuchAPassMayRemove(t *testing.T) {
	const huge = math.MaxUint64
	for name, tt := range map[string]struct{ bytes, freed, size, want uint64 }{
		"at first":                    {100, 0, 0, 100},
		"enough":                      {100, 100, 40, 0},
		"more than enough":            {100, 150, 40, 0},
		"as much as they are large":   {100, 40, 40, 60},
		"shared layers":               {100, 10, 90, 90},
		"shared layers, to the limit": {100, 10, 150, 50},
		"nothing shows":               {100, 0, 200, 0},
		"nothing shows of a huge one": {100, 0, huge, 0},
		"no overflow":                 {huge - 1, 1, huge - 1, 1},
	} {
		if got := allowance(tt.bytes, tt.freed, tt.size); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestSizesAreWrittenAsTheKubeletDoes(t *testing.T) {
	for bytes, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 64 << 20: "64.0 MiB", 3 << 29: "1.5 GiB", 5 << 40: "5.0 TiB", 2 << 50: "2048.0 TiB"} {
		if got := readable(bytes); got != want {
			t.Errorf("%d bytes: %q, want %q", bytes, got, want)
		}
	}
}
