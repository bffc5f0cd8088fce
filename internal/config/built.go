package config

// notBuilt lists what a configuration may say and timeball cannot do yet. What gets
// its engine is deleted here; nothing else needs to change.
var notBuilt = []struct {
	feature string
	used    func(*Config) []string // the paths that use it
}{
	{"NTS for sources", eachSource(".nts", func(s *Source) bool { return s.NTS != nil })},
}

// NotBuilt names what a configuration asks for and timeball cannot do yet, one line
// for each use, none if it can do all.
func NotBuilt(c *Config) []string {
	var lines []string
	for _, entry := range notBuilt {
		for _, path := range entry.used(c) {
			lines = append(lines, path+": "+entry.feature+": not built yet; leave it out")
		}
	}
	return lines
}

// eachSource gives the paths of the sources for which used holds.
func eachSource(key string, used func(*Source) bool) func(*Config) []string {
	return func(c *Config) []string {
		var paths []string
		for i := range c.Sources {
			if used(&c.Sources[i]) {
				paths = append(paths, sourcePath(i)+key)
			}
		}
		return paths
	}
}

// when gives the path if used holds.
func when(path string, used func(*Config) bool) func(*Config) []string {
	return func(c *Config) []string {
		if used(c) {
			return []string{path}
		}
		return nil
	}
}
