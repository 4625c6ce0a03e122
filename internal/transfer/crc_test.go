package transfer

import (
	"math/rand/v2"
	"testing"
)

func crcs() []crc { return []crc{crc64NVME(), crc32C(), crc32IEEE()} }

func (c crc) sum(data []byte) uint64 {
	h := c.hash()
	_, _ = h.Write(data)
	return c.of(h)
}

func TestCombine(t *testing.T) {
	data := make([]byte, 1<<16)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	for _, c := range crcs() {
		want := c.sum(data)
		for _, cut := range []int{0, 1, 7, 8, 255, 4096, 65535, 65536} {
			a, b := data[:cut], data[cut:]
			if got := c.combine(c.sum(a), c.sum(b), int64(len(b))); got != want {
				t.Errorf("%s, cut at %d: %016x, want %016x", c.name, cut, got, want)
			}
		}
	}
}

// The published check values are the checksums of "123456789".
func TestCRCKnownValues(t *testing.T) {
	for _, test := range []struct {
		crc     crc
		sum     uint64
		encoded string
	}{
		{crc64NVME(), 0xae8b14860a799888, "rosUhgp5mIg="},
		{crc32C(), 0xe3069283, "4waSgw=="},
		{crc32IEEE(), 0xcbf43926, "y/Q5Jg=="},
	} {
		got := test.crc.sum([]byte("123456789"))
		if got != test.sum || test.crc.encode(got) != test.encoded {
			t.Errorf("%s: %x, %q", test.crc.name, got, test.crc.encode(got))
		}
	}
}

func FuzzCombine(f *testing.F) {
	f.Add([]byte("hello"), []byte(" world"))
	f.Add([]byte{}, []byte{0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, c := range crcs() {
			want := c.sum(append(append([]byte{}, a...), b...))
			if got := c.combine(c.sum(a), c.sum(b), int64(len(b))); got != want {
				t.Errorf("%s: %016x, want %016x", c.name, got, want)
			}
		}
	})
}

func BenchmarkCombine(b *testing.B) {
	for b.Loop() {
		crc64NVME().combine(0x0123456789abcdef, 0xfedcba9876543210, 16<<20)
	}
}
