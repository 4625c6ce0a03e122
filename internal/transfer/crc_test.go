package transfer

import (
	"math/rand/v2"
	"testing"

	"github.com/minio/crc64nvme"
)

func TestCombineCRC(t *testing.T) {
	data := make([]byte, 1<<16)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	want := crc64nvme.Checksum(data)
	for _, cut := range []int{0, 1, 7, 8, 255, 4096, 65535, 65536} {
		a, b := data[:cut], data[cut:]
		if got := combineCRC(crc64nvme.Checksum(a), crc64nvme.Checksum(b), int64(len(b))); got != want {
			t.Errorf("cut at %d: %016x, want %016x", cut, got, want)
		}
	}
}

// The checksum of nothing is 0, and the published check value is that of "123456789".
func TestCRCKnownValues(t *testing.T) {
	if got := crc64nvme.Checksum([]byte("123456789")); got != 0xae8b14860a799888 {
		t.Errorf("check value %016x", got)
	}
	if got, want := encodeCRC(0xae8b14860a799888), "rosUhgp5mIg="; got != want {
		t.Errorf("encoded %q, want %q", got, want)
	}
}

func FuzzCombineCRC(f *testing.F) {
	f.Add([]byte("hello"), []byte(" world"))
	f.Add([]byte{}, []byte{0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		want := crc64nvme.Checksum(append(append([]byte{}, a...), b...))
		if got := combineCRC(crc64nvme.Checksum(a), crc64nvme.Checksum(b), int64(len(b))); got != want {
			t.Errorf("%016x, want %016x", got, want)
		}
	})
}
