package config

import (
	"fmt"
	"slices"

	"github.com/berth-proxy/berth/server/glob"
)

// checkPattern checks one pattern of keys.
func checkPattern(word string) error {
	if len(word) > glob.MaxLength {
		return fmt.Errorf("a pattern must not be longer than %d bytes", glob.MaxLength)
	}
	return nil
}

// SameCache reports whether two configurations say the same of what is kept of hot reads.
func (c *Config) SameCache(o *Config) bool {
	return c.CacheHotRate == o.CacheHotRate && c.CacheMaxMemory == o.CacheMaxMemory && c.CacheMaxValue == o.CacheMaxValue &&
		c.CacheTTLMax == o.CacheTTLMax && slices.Equal(c.CacheKeys, o.CacheKeys) && slices.Equal(c.CacheNotKeys, o.CacheNotKeys)
}
