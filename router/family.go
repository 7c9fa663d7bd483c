package router

import "slices"

// Family is what a command is about, for figures.
type Family uint8

// families are the names of the families, and the ACL categories by which a command is of one: the first
// that fits. A command of a module is of the last one, and so is what fits nowhere.
var families = [...]struct{ name, category string }{
	{"string", "@string"}, {"list", "@list"}, {"hash", "@hash"}, {"set", "@set"}, {"sortedset", "@sortedset"}, {"stream", "@stream"},
	{"bitmap", "@bitmap"}, {"hyperloglog", "@hyperloglog"}, {"geo", "@geo"}, {"scripting", "@scripting"}, {"transaction", "@transaction"},
	{"pubsub", "@pubsub"}, {"connection", "@connection"}, {"keyspace", "@keyspace"}, {"other", ""},
}

// NumFamilies is how many families there are.
const NumFamilies = len(families)

func (f Family) String() string { return families[f].name }

// deriveFamily sets the family.
func (c *Command) deriveFamily() {
	at := slices.IndexFunc(families[:NumFamilies-1], func(f struct{ name, category string }) bool {
		return slices.Contains(c.Categories, f.category)
	})
	if at < 0 {
		at = NumFamilies - 1
	}
	c.Family = Family(at)
}
