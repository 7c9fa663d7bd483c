package telemetry

import "time"

// rateSeconds is for how many seconds a loop remembers how much it did.
const rateSeconds = 300

// Rates is how many commands a loop has answered in each of the last seconds. The loop owns it. A
// tick enters what was answered since the previous tick.
type Rates struct {
	last    commandStats // the total at the previous tick
	seconds [rateSeconds]rateSecond
}

// rateSecond is one second.
type rateSecond struct {
	unix int64 // which second
	commandStats
}

// Tick enters what was answered since the previous tick into the second of now. now is in unix
// nanoseconds.
func (r *Rates) Tick(now int64, st *Counters) {
	all := st.allCommands()
	if all.ok < r.last.ok || all.failed < r.last.failed { // CONFIG RESETSTAT
		r.last = commandStats{}
	}
	unix := now / int64(time.Second)
	s := &r.seconds[unix%rateSeconds]
	if s.unix != unix {
		*s = rateSecond{unix: unix}
	}
	s.ok += all.ok - r.last.ok
	s.failed += all.failed - r.last.failed
	r.last = all
}

// rateSeries is what all loops have done, one number for each second, oldest first.
type rateSeries struct {
	Until    int64   `json:"until"` // the second after the last one, unix seconds
	Requests []int64 `json:"requests"`
	Errors   []int64 `json:"errors"`
}

// sumRates adds up the whole seconds until now, from since on or as far back as loops remember.
func sumRates(all []Rates, since, now time.Time) rateSeries {
	until := now.Unix()
	from := max(since.Unix(), until-rateSeconds+1) // the slot of the oldest second has begun to be the current one's
	n := max(0, until-from)
	series := rateSeries{Until: until, Requests: make([]int64, n), Errors: make([]int64, n)}
	for i := range all {
		for _, s := range all[i].seconds {
			if s.unix >= from && s.unix < until {
				series.Requests[s.unix-from] += s.ok + s.failed
				series.Errors[s.unix-from] += s.failed
			}
		}
	}
	return series
}

// lastSeconds returns the mean of the last n numbers of a series, or of all if there are fewer.
func lastSeconds(series []int64, n int) float64 {
	n = min(n, len(series))
	if n == 0 {
		return 0
	}
	sum := int64(0)
	for _, v := range series[len(series)-n:] {
		sum += v
	}
	return float64(sum) / float64(n)
}
