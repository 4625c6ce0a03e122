package api

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter returns what holds to l, nil where there is no limit.
func (l Limit) limiter(defaultRate float64, defaultBurst int) *rate.Limiter {
	if l.Rate < 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(cmp.Or(l.Rate, defaultRate)), max(1, cmp.Or(l.Burst, defaultBurst)))
}

func tooMany(limiter *rate.Limiter) *failure {
	pause := time.Duration(float64(time.Second) / float64(limiter.Limit()))
	return &failure{status: http.StatusTooManyRequests, Message: "Too Many Requests", retryAfter: pause}
}

// keys are those that are accepted, and what is left to each.
type keys struct {
	hashes [][sha256.Size]byte
	uses   []*usage
}

func newKeys(opts Options) *keys {
	k := &keys{}
	for _, key := range opts.Keys {
		k.hashes = append(k.hashes, sha256.Sum256([]byte(key)))
		k.uses = append(k.uses, &usage{
			limiter: opts.PerKey.limiter(DefaultRate, DefaultBurst), quota: cmp.Or(opts.Quota, DefaultQuota),
		})
	}
	return k
}

// find returns the number of a key, counted from 1, and what is left to it; nil for a key that is not accepted. How
// long it takes tells nothing of the keys: the hashes have one length, and all of them are compared.
func (k *keys) find(key string) (number int, use *usage) {
	hash := sha256.Sum256([]byte(key))
	for i := range k.hashes {
		if subtle.ConstantTimeCompare(hash[:], k.hashes[i][:]) == 1 && use == nil {
			number, use = i+1, k.uses[i]
		}
	}
	if key == "" { // who sends none has none, whatever the configuration says
		return 0, nil
	}
	return number, use
}

// usage is what the usage plan leaves to one key.
type usage struct {
	limiter *rate.Limiter // nil: any rate
	quota   int           // requests a month; negative: any

	mu    sync.Mutex
	month time.Time // its begin, UTC
	used  int
}

// take counts one request, at the time now, or refuses it. One that is refused counts for nothing.
func (u *usage) take(now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	year, m, _ := now.UTC().Date()
	if month := time.Date(year, m, 1, 0, 0, 0, 0, time.UTC); !month.Equal(u.month) {
		u.month, u.used = month, 0
	}
	if u.quota >= 0 && u.used >= u.quota {
		return &failure{
			status: http.StatusTooManyRequests, Message: "Limit Exceeded",
			retryAfter: u.month.AddDate(0, 1, 0).Sub(now),
		}
	}
	if u.limiter != nil && !u.limiter.Allow() {
		return tooMany(u.limiter)
	}
	u.used++
	return nil
}

// maxAddresses is how many addresses are told apart at a time, at least: about a megabyte of them.
const maxAddresses = 10_000

// anonymous limits the calls that need no key, or come with a wrong one: those of each address, and those of all. What they
// can do is make placeholders, each of which a sweep removes, and guess; the limits bound what that costs and finds.
type anonymous struct {
	perAddress Limit
	all        *rate.Limiter // nil: any rate

	mu sync.Mutex
	// The addresses of now and of a while ago. When there are too many, the older ones are forgotten, and begin
	// anew.
	recent, older map[string]*rate.Limiter
}

func newAnonymous(opts Options) *anonymous {
	return &anonymous{
		perAddress: opts.PerAddress,
		all:        opts.Anonymous.limiter(DefaultAnonymousRate, DefaultAnonymousBurst),
		recent:     make(map[string]*rate.Limiter),
	}
}

// take counts one request from an address, or refuses it.
func (a *anonymous) take(address string) error {
	if limiter := a.limiterOf(network(address)); limiter != nil && !limiter.Allow() {
		return tooMany(limiter)
	}
	if a.all != nil && !a.all.Allow() {
		return tooMany(a.all)
	}
	return nil
}

func (a *anonymous) limiterOf(network string) *rate.Limiter {
	if a.perAddress.Rate < 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	limiter, ok := a.recent[network]
	if ok {
		return limiter
	}
	if limiter, ok = a.older[network]; !ok {
		limiter = a.perAddress.limiter(DefaultRate, DefaultBurst)
	}
	if len(a.recent) >= maxAddresses {
		a.recent, a.older = make(map[string]*rate.Limiter), a.recent
	}
	a.recent[network] = limiter
	return limiter
}

// network is what one user has of addresses: one of IPv4, 2^64 of IPv6 (RFC 6177). An address that is none stands for
// itself.
func network(address string) string {
	ip, ok := parseAddress(address)
	if !ok {
		return short(address)
	}
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return short(address)
	}
	return prefix.String()
}
