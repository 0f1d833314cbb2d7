"""May I believe it? What one noisy image tells of its denoised one, without a truth.

noisy image --thinning--> two images --risk, resolution, consistency--> what to believe
"""
