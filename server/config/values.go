package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// Errors of Redis for wrong values (config.c of 7.0).
var (
	errWordCount  = errors.New("wrong number of arguments")
	errNotInteger = errors.New("argument couldn't be parsed into an integer")
	errNotMemory  = errors.New("argument must be a memory value")
)

// A fullError says what would be right, so explain adds nothing to it.
type fullError string

func (e fullError) Error() string { return string(e) }

// oneWord is embedded in the types whose values are one word.
type oneWord struct{}

func (oneWord) many() bool { return false }

// numberValue is a whole number from min to max.
type numberValue struct {
	oneWord
	at       func(*Config) *int
	min, max int
}

func (v numberValue) set(c *Config, words []string) error {
	n, err := parseInteger(words[0])
	if err != nil {
		return err
	}
	if n < v.min || n > v.max {
		return outOfRange(v.min, v.max)
	}
	*v.at(c) = n
	return nil
}

func (v numberValue) text(c *Config) string    { return strconv.Itoa(*v.at(c)) }
func (v numberValue) lines(c *Config) []string { return []string{v.text(c)} }
func (v numberValue) unit() string             { return "number" }
func (v numberValue) wants() string            { return fmt.Sprintf("a whole number from %d to %d", v.min, v.max) }

// sizeValue is a number of bytes, with the suffixes of redis.conf: 1k is 1000, 1kb is 1024.
type sizeValue struct {
	oneWord
	at       func(*Config) *int
	min, max int
}

func (v sizeValue) set(c *Config, words []string) error {
	n, err := parseMemory(words[0])
	if err != nil {
		return err
	}
	if n < v.min || n > v.max {
		return outOfRange(v.min, v.max)
	}
	*v.at(c) = n
	return nil
}

func (v sizeValue) text(c *Config) string    { return strconv.Itoa(*v.at(c)) }
func (v sizeValue) lines(c *Config) []string { return []string{formatMemory(*v.at(c))} }
func (v sizeValue) unit() string             { return "bytes" }

func (v sizeValue) wants() string {
	if v.max == math.MaxInt {
		return "a size such as 64mb, at least " + formatMemory(v.min)
	}
	return fmt.Sprintf("a size such as 64mb, from %s to %s", formatMemory(v.min), formatMemory(v.max))
}

// memoryShareValue is a size, or a percentage of the memory that the process may have.
type memoryShareValue struct {
	oneWord
	at func(*Config) *MemoryShare
}

func (v memoryShareValue) set(c *Config, words []string) error {
	digits, percent := strings.CutSuffix(words[0], "%")
	if !percent {
		n, err := parseMemory(words[0])
		if err == nil {
			*v.at(c) = MemoryShare{Bytes: n}
		}
		return err
	}
	n, err := parseInteger(digits)
	if err == nil && n > 100 {
		return errors.New("percentage argument must be less or equal to 100")
	}
	if err != nil || n < 1 {
		return errors.New("argument must be a memory value, or a percentage from 1% to 100%")
	}
	*v.at(c) = MemoryShare{Percent: n}
	return nil
}

func (v memoryShareValue) text(c *Config) string { return v.write(c, strconv.Itoa) }

func (v memoryShareValue) lines(c *Config) []string { return []string{v.write(c, formatMemory)} }

func (v memoryShareValue) write(c *Config, bytes func(int) string) string {
	if m := v.at(c); m.Percent > 0 {
		return strconv.Itoa(m.Percent) + "%"
	}
	return bytes(v.at(c).Bytes)
}

func (v memoryShareValue) unit() string  { return "bytes or percent" }
func (v memoryShareValue) wants() string { return "a size such as 64mb, or a share such as 25%" }

// durationValue is a duration: a number in the option's unit, or a number with a suffix (ms s m h
// d).
type durationValue struct {
	oneWord
	at       func(*Config) *time.Duration
	per      time.Duration // the unit
	min, max int           // in units
}

func (v durationValue) set(c *Config, words []string) error {
	n, err := parseSpan(words[0], v.per)
	if err != nil {
		return err
	}
	if n < v.min || n > v.max {
		return outOfRange(v.min, v.max)
	}
	*v.at(c) = time.Duration(n) * v.per
	return nil
}

func (v durationValue) text(c *Config) string    { return strconv.Itoa(int(*v.at(c) / v.per)) }
func (v durationValue) lines(c *Config) []string { return []string{v.text(c)} }

func (v durationValue) unit() string {
	if v.per == time.Millisecond {
		return "ms"
	}
	return "s"
}

func (v durationValue) wants() string {
	return fmt.Sprintf("a whole number of %s from %d to %d, or one with a suffix (ms s m h d)",
		map[string]string{"ms": "milliseconds", "s": "seconds"}[v.unit()], v.min, v.max)
}

// choiceValue is one word of a list. A bool is a choice of two.
type choiceValue[T comparable] struct {
	oneWord
	at    func(*Config) *T
	names []string
	means []T   // means[i] is the value of names[i]
	err   error // of any other word
}

func (v choiceValue[T]) set(c *Config, words []string) error {
	for i, name := range v.names {
		if strings.EqualFold(name, words[0]) {
			*v.at(c) = v.means[i]
			return nil
		}
	}
	return v.err
}

func (v choiceValue[T]) text(c *Config) string {
	for i, m := range v.means {
		if m == *v.at(c) {
			return v.names[i]
		}
	}
	return v.names[0]
}

func (v choiceValue[T]) lines(c *Config) []string { return []string{v.text(c)} }
func (v choiceValue[T]) unit() string             { return strings.Join(v.names, "/") }
func (v choiceValue[T]) wants() string            { return "one of: " + strings.Join(v.names, ", ") }

func yesNo(at func(*Config) *bool) optionValue {
	return choiceValue[bool]{at: at, names: []string{"no", "yes"}, means: []bool{false, true}, err: fullError("argument must be 'yes' or 'no'")}
}

func zeroOne(at func(*Config) *bool) optionValue {
	return choiceValue[bool]{at: at, names: []string{"0", "1"}, means: []bool{false, true}, err: fullError("argument must be '0' or '1'")}
}

func oneOf[T comparable](at func(*Config) *T, names []string, means []T) optionValue {
	return choiceValue[T]{at: at, names: names, means: means,
		err: fullError("argument(s) must be one of the following: " + strings.Join(names, ", "))}
}

// textValue is the empty word, or any word that check accepts; a nil check accepts all.
type textValue[T ~string] struct {
	oneWord
	at    func(*Config) *T
	is    string // the unit column: "path", "name"
	check func(string) error
}

func (v textValue[T]) set(c *Config, words []string) error {
	if v.check != nil && words[0] != "" {
		if err := v.check(words[0]); err != nil {
			return err
		}
	}
	*v.at(c) = T(words[0])
	return nil
}

func (v textValue[T]) text(c *Config) string    { return string(*v.at(c)) }
func (v textValue[T]) lines(c *Config) []string { return []string{quoteWord(v.text(c))} }
func (v textValue[T]) unit() string             { return v.is }
func (v textValue[T]) wants() string            { return "a " + v.is }

// listValue is any number of words; a single empty word is the empty list.
type listValue struct {
	at    func(*Config) *[]string
	is    string
	check func(string) error
	bound error // what to say to more than maxAddresses; nil: there may be any number
}

func (v listValue) set(c *Config, words []string) error {
	if len(words) == 0 {
		return errWordCount
	}
	if len(words) == 1 && words[0] == "" {
		words = nil
	}
	if v.bound != nil && len(words) > maxAddresses {
		return v.bound
	}
	for _, w := range words {
		if err := v.check(w); err != nil {
			return err
		}
	}
	*v.at(c) = append([]string(nil), words...)
	return nil
}

func (v listValue) text(c *Config) string    { return strings.Join(*v.at(c), " ") }
func (v listValue) many() bool               { return true }
func (v listValue) unit() string             { return v.is }
func (v listValue) wants() string            { return v.is + ", with spaces between them" }
func (v listValue) lines(c *Config) []string { return []string{quoteWords(*v.at(c))} }

// networksValue is any number of networks, as 10.0.0.0/8; an address is a network of its own.
type networksValue struct {
	at func(*Config) *[]netip.Prefix
}

func (v networksValue) set(c *Config, words []string) error {
	if len(words) == 0 {
		return errWordCount
	}
	var networks []netip.Prefix
	for _, w := range words {
		if w == "" {
			continue
		}
		network, err := parseNetwork(w)
		if err != nil {
			return errors.New("argument must be networks such as 10.0.0.0/8")
		}
		networks = append(networks, network)
	}
	*v.at(c) = networks
	return nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(s)
	if addr, isAddr := netip.ParseAddr(s); isAddr == nil {
		network, err = addr.Prefix(addr.BitLen())
	}
	return network.Masked(), err
}

func (v networksValue) words(c *Config) (words []string) {
	for _, network := range *v.at(c) {
		words = append(words, network.String())
	}
	return words
}

func (v networksValue) text(c *Config) string    { return strings.Join(v.words(c), " ") }
func (v networksValue) lines(c *Config) []string { return []string{quoteWords(v.words(c))} }

func (v networksValue) many() bool    { return true }
func (v networksValue) unit() string  { return "networks" }
func (v networksValue) wants() string { return "networks such as 10.0.0.0/8, with spaces between them" }

// modeValue is an octal file mode; 0 is the mode that the umask gives.
type modeValue struct {
	oneWord
	at func(*Config) *os.FileMode
}

func (v modeValue) set(c *Config, words []string) error {
	n, err := strconv.ParseUint(words[0], 8, 32)
	if err != nil || n > 0o777 {
		return errors.New("argument must be an octal file mode between 0 and 777")
	}
	*v.at(c) = os.FileMode(n)
	return nil
}

func (v modeValue) text(c *Config) string    { return strconv.FormatUint(uint64(*v.at(c)), 8) }
func (v modeValue) lines(c *Config) []string { return []string{v.text(c)} }
func (v modeValue) unit() string             { return "octal mode" }
func (v modeValue) wants() string            { return "an octal file mode such as 770" }

// outputLimitsValue is the value of client-output-buffer-limit: class, hard, soft and seconds, for
// one class or several. A class that is not named keeps its limits.
type outputLimitsValue struct {
	at func(*Config) *OutputLimits
}

func (v outputLimitsValue) classes(l *OutputLimits) map[string]*OutputLimit {
	return map[string]*OutputLimit{"normal": &l.Normal, "pubsub": &l.PubSub}
}

func (v outputLimitsValue) set(c *Config, words []string) error {
	if len(words)%4 != 0 || len(words) == 0 {
		return errors.New("Wrong number of arguments in buffer limit configuration.")
	}
	next := *v.at(c)
	for ; len(words) > 0; words = words[4:] {
		class := v.classes(&next)[strings.ToLower(words[0])]
		if class == nil {
			return errors.New("Invalid client class specified in buffer limit configuration.")
		}
		hard, err1 := parseMemory(words[1])
		soft, err2 := parseMemory(words[2])
		seconds, err3 := parseInteger(words[3])
		if err1 != nil || err2 != nil || err3 != nil || seconds < 0 || seconds > math.MaxInt32 {
			return errors.New("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
		}
		*class = OutputLimit{Hard: hard, Soft: soft, SoftFor: time.Duration(seconds) * time.Second}
	}
	*v.at(c) = next
	return nil
}

func (v outputLimitsValue) text(c *Config) string {
	l := v.at(c)
	return v.class("normal", l.Normal, strconv.Itoa) + " " + v.class("pubsub", l.PubSub, strconv.Itoa)
}

func (v outputLimitsValue) lines(c *Config) []string {
	l := v.at(c)
	return []string{v.class("normal", l.Normal, formatMemory), v.class("pubsub", l.PubSub, formatMemory)}
}

func (v outputLimitsValue) class(name string, l OutputLimit, bytes func(int) string) string {
	return fmt.Sprintf("%s %s %s %d", name, bytes(l.Hard), bytes(l.Soft), int(l.SoftFor/time.Second))
}

func (v outputLimitsValue) many() bool   { return true }
func (v outputLimitsValue) unit() string { return "class, bytes, bytes, s" }
func (v outputLimitsValue) wants() string {
	return "class (normal or pubsub), hard limit, soft limit, seconds, as in: normal 1gb 256mb 60"
}

// backendValue is the backend's URL. Its text holds the password; the row of the table has a mask.
type backendValue struct {
	oneWord
	at func(*Config) *BackendURL
}

func (v backendValue) set(c *Config, words []string) error {
	u, err := parseBackendURL(words[0])
	if err != nil {
		return err
	}
	*v.at(c) = u
	return nil
}

var errSecondBackend = fullError("there is a backend already; the nodes of one Cluster are named in one URL, with commas between them: redis://a:7001,b:7002")

// add refuses a second backend: berth would serve but one of them.
func (v backendValue) add(*Config, []string) error { return errSecondBackend }

func (v backendValue) text(c *Config) string    { return string(v.at(c).raw) }
func (v backendValue) lines(c *Config) []string { return []string{quoteWord(v.text(c))} }
func (v backendValue) unit() string             { return "URL" }
func (v backendValue) wants() string {
	return "redis://host:6379[/db], redis://a:7001,b:7002, sentinel://a:26379,b:26379/name or unix:///path"
}

func outOfRange(min, max int) error {
	return fullError(fmt.Sprintf("argument must be between %d and %d inclusive", min, max))
}

// parseInteger reads an integer as strictly as Redis' string2ll: no '+', no leading zeros, no
// spaces.
func parseInteger(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || strconv.Itoa(n) != s {
		return 0, errNotInteger
	}
	return n, nil
}

// memoryUnits are the suffixes of redis.conf. The powers of two come first: formatMemory uses them
// only.
var memoryUnits = []struct {
	suffix string
	bytes  int
}{{"gb", 1 << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}, {"g", 1e9}, {"m", 1e6}, {"k", 1e3}, {"b", 1}}

func parseMemory(s string) (int, error) {
	digits, times := strings.ToLower(s), 1
	for _, u := range memoryUnits {
		if cut, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, times = cut, u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > uint64(math.MaxInt/times) {
		return 0, errNotMemory
	}
	return int(n) * times, nil
}

// formatMemory writes a size as a whole number of gb, mb or kb if it is one, else in bytes.
func formatMemory(n int) string {
	for _, u := range memoryUnits[:3] {
		if n != 0 && n%u.bytes == 0 {
			return strconv.Itoa(n/u.bytes) + u.suffix
		}
	}
	return strconv.Itoa(n)
}

var spanUnits = []struct {
	suffix string
	is     time.Duration
}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// parseSpan reads a duration and returns it in units. It refuses a duration that is no whole number
// of units.
func parseSpan(s string, unit time.Duration) (int, error) {
	for _, u := range spanUnits {
		digits, ok := strings.CutSuffix(strings.ToLower(s), u.suffix)
		if !ok {
			continue
		}
		n, err := parseInteger(digits)
		if err != nil || n < 0 || n > int(math.MaxInt64/u.is) {
			return 0, errNotInteger
		}
		d := time.Duration(n) * u.is
		if d%unit != 0 {
			return 0, fmt.Errorf("argument must be a whole number of %s", map[time.Duration]string{
				time.Second: "seconds", time.Millisecond: "milliseconds"}[unit])
		}
		return int(d / unit), nil
	}
	return parseInteger(s)
}
